package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"sluice/examples/internal/stage"
)

// TestMain lets this test's binary be the worker that the demo starts and kills.
func TestMain(m *testing.M) {
	roles.Play()
	os.Exit(m.Run())
}

func TestTheDemoComesOutRight(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := stage.Play(t.Context(), stage.Config{Out: &out}, demo); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{"kill -9", "mode recovery", "owner lost", "seq 3, DEFERRED", "seq 5, RECOVERY", "in doubt", "it took effect and is not run again", "which had been held", "draining → normal", "Each message took effect once"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not told:\n%s", want, out.String())
		}
	}
}
