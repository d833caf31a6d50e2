package main

import "testing"

func TestAReplyCannotDriveATerminal(t *testing.T) {
	t.Parallel()
	for reply, want := range map[string]string{
		"4.20": "4.20\n", "4.20\n": "4.20\n", "": "\n", "a\tb\r\x1b[31m": "a\tb..[31m\n", "\xff é": ". é\n",
	} {
		if got := string(forTerminal([]byte(reply))); got != want {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
	}
}
