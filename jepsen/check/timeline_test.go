package check

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
)

func TestTheTimelineShowsModesMessagesAndFaults(t *testing.T) {
	t.Parallel()
	c := caseOf(t, good(t))
	var page bytes.Buffer
	if err := c.Timeline(&page, c.Busiest()); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{`class="recovery"`, `class="draining"`, `class="normal"`, `class="fault"`, `class="deferred"`, "worker-kill accounts-worker-2"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if strings.Contains(text, "http") || strings.Contains(text, "<script") {
		t.Error("the page needs something else")
	}
	drawing := xml.NewDecoder(strings.NewReader(text[strings.Index(text, "<svg"):strings.Index(text, "</body>")]))
	for {
		if _, err := drawing.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the drawing is ill-formed: %v", err)
		}
	}
}
