// Package obs is how a process is observed: one log stream, as text or JSON, that everything writes to, also the
// libraries that know only go-hclog or the standard library's logger.
package obs

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// NewLogger makes the root logger of a process: format is "text" or "json", level "debug", "info", "warn" or "error".
// It is an error to ask for another.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	switch strings.ToLower(level) {
	case "debug":
		l = slog.LevelDebug
	case "info":
		l = slog.LevelInfo
	case "warn":
		l = slog.LevelWarn
	case "error":
		l = slog.LevelError
	default:
		return nil, fmt.Errorf("unknown log level %q: use debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("unknown log format %q: use text or json", format)
}
