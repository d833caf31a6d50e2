package obs

import (
	"log/slog"
	"testing"
)

func TestLowerOnlyLowersAndDropsWhatIsNotShown(t *testing.T) {
	logger, lines := setup(t, "info")
	levels := map[string]slog.Level{"quiet": slog.LevelInfo, "gone": slog.LevelDebug, "loud": slog.LevelError}
	lowered := Lower(logger, func(r slog.Record) slog.Level { return levels[r.Message] }).With("k", "v")
	lowered.Error("quiet")
	lowered.Error("gone")
	lowered.Warn("loud")
	got := lines()
	if len(got) != 2 || got[0]["level"] != "INFO" || got[0]["k"] != "v" || got[1]["level"] != "WARN" {
		t.Errorf("got %v", got)
	}
}
