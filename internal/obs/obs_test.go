package obs

import (
	"bytes"
	"encoding/json"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func setup(t *testing.T, level string) (*slog.Logger, func() []map[string]any) {
	t.Helper()
	var out bytes.Buffer
	logger, err := NewLogger(&out, "json", level)
	if err != nil {
		t.Fatal(err)
	}
	return logger, func() []map[string]any {
		var lines []map[string]any
		for line := range strings.Lines(out.String()) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, m)
		}
		return lines
	}
}

func TestNewLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	if _, err := NewLogger(&bytes.Buffer{}, "xml", "info"); err == nil || !strings.Contains(err.Error(), "xml") {
		t.Errorf("format: %v", err)
	}
	if _, err := NewLogger(&bytes.Buffer{}, "text", "loud"); err == nil || !strings.Contains(err.Error(), "loud") {
		t.Errorf("level: %v", err)
	}
}

func TestHclogWritesToSlog(t *testing.T) {
	logger, lines := setup(t, "info")
	h := Hclog(logger, "raft")
	h.Debug("hidden")
	h.With("node", "n1").Named("snapshot").Warn("slow", "ms", 12, "text", hclog.Fmt("%d of %d", 1, 2), "bits", hclog.Hex(255))
	got := lines()
	if len(got) != 1 {
		t.Fatalf("%d lines, want 1: %v", len(got), got)
	}
	want := map[string]any{"level": "WARN", "msg": "slow", "component": "raft.snapshot", "node": "n1", "ms": 12.0, "text": "1 of 2", "bits": "0xff"}
	for k, v := range want {
		if got[0][k] != v {
			t.Errorf("%s: %v, want %v", k, got[0][k], v)
		}
	}
}

func TestHclogLevelIsTheHandlers(t *testing.T) {
	logger, _ := setup(t, "warn")
	h := Hclog(logger, "raft")
	h.SetLevel(hclog.Trace)
	if h.IsInfo() || !h.IsWarn() || h.GetLevel() != hclog.Warn {
		t.Errorf("info %v, warn %v, level %v", h.IsInfo(), h.IsWarn(), h.GetLevel())
	}
}

func TestLineWriterFindsTheLevel(t *testing.T) {
	tests := []struct{ line, level, msg, component string }{
		{"[DEBUG] memberlist: Stream connection from=127.0.0.1:1", "DEBUG", "Stream connection from=127.0.0.1:1", "memberlist"},
		{"2026/11/23 00:00:00 [WARN] memberlist: Refuting", "WARN", "Refuting", "memberlist"},
		{"[ERR] memberlist: Failed", "ERROR", "Failed", "memberlist"},
		{"[INFO]  plain words", "INFO", "plain words", ""},
		{"no level here", "INFO", "no level here", ""},
	}
	for _, tt := range tests {
		logger, lines := setup(t, "debug")
		log.New(LineWriter(logger, ""), "", 0).Println(tt.line)
		got := lines()[0]
		component, _ := got["component"].(string)
		if got["level"] != tt.level || got["msg"] != tt.msg || component != tt.component {
			t.Errorf("%q: %v", tt.line, got)
		}
	}
}

func TestStandardLoggerKeepsTheName(t *testing.T) {
	logger, lines := setup(t, "info")
	Hclog(logger, "gossip").StandardLogger(nil).Print("[WARN] memberlist: x: y")
	got := lines()[0]
	if got["component"] != "gossip" || got["level"] != "WARN" || got["msg"] != "x: y" {
		t.Errorf("%v", got)
	}
}
