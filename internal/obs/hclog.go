package obs

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"regexp"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// LevelTrace is where go-hclog's trace lines go: below debug, which no level of NewLogger shows.
const LevelTrace = slog.LevelDebug - 4

// Hclog makes a go-hclog logger that writes to logger, for the libraries that ask for one. The name appears as the
// attribute "component"; names given later are joined to it by dots. Setting its level has no effect: the level is
// that of logger.
func Hclog(logger *slog.Logger, name string) hclog.Logger {
	return &bridge{logger: logger, name: name}
}

// bridge is an hclog.Logger over slog. It is immutable, so it needs no lock.
type bridge struct {
	logger  *slog.Logger
	name    string
	implied []any
}

func (b *bridge) Log(level hclog.Level, msg string, args ...any) {
	l := slogLevel(level)
	ctx := context.Background()
	if level == hclog.Off || !b.logger.Enabled(ctx, l) {
		return
	}
	attrs := make([]any, 0, 2+len(b.implied)+len(args))
	if b.name != "" {
		attrs = append(attrs, "component", b.name)
	}
	attrs = append(attrs, b.implied...)
	b.logger.Log(ctx, l, msg, append(attrs, plain(args)...)...)
}

func (b *bridge) Trace(msg string, args ...any) { b.Log(hclog.Trace, msg, args...) }
func (b *bridge) Debug(msg string, args ...any) { b.Log(hclog.Debug, msg, args...) }
func (b *bridge) Info(msg string, args ...any)  { b.Log(hclog.Info, msg, args...) }
func (b *bridge) Warn(msg string, args ...any)  { b.Log(hclog.Warn, msg, args...) }
func (b *bridge) Error(msg string, args ...any) { b.Log(hclog.Error, msg, args...) }

func (b *bridge) IsTrace() bool { return b.shows(hclog.Trace) }
func (b *bridge) IsDebug() bool { return b.shows(hclog.Debug) }
func (b *bridge) IsInfo() bool  { return b.shows(hclog.Info) }
func (b *bridge) IsWarn() bool  { return b.shows(hclog.Warn) }
func (b *bridge) IsError() bool { return b.shows(hclog.Error) }

func (b *bridge) shows(level hclog.Level) bool {
	return b.logger.Enabled(context.Background(), slogLevel(level))
}

func (b *bridge) ImpliedArgs() []any { return b.implied }

func (b *bridge) With(args ...any) hclog.Logger {
	implied := append(append([]any(nil), b.implied...), plain(args)...)
	return &bridge{logger: b.logger, name: b.name, implied: implied}
}

func (b *bridge) Name() string { return b.name }

func (b *bridge) Named(name string) hclog.Logger {
	if b.name != "" {
		name = b.name + "." + name
	}
	return b.ResetNamed(name)
}

func (b *bridge) ResetNamed(name string) hclog.Logger {
	return &bridge{logger: b.logger, name: name, implied: b.implied}
}

// SetLevel does nothing: the level belongs to the slog handler, which several loggers share.
func (b *bridge) SetLevel(hclog.Level) {}

func (b *bridge) GetLevel() hclog.Level {
	for _, level := range []hclog.Level{hclog.Trace, hclog.Debug, hclog.Info, hclog.Warn, hclog.Error} {
		if b.shows(level) {
			return level
		}
	}
	return hclog.Off
}

func (b *bridge) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(b.StandardWriter(nil), "", 0)
}

func (b *bridge) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return LineWriter(b.logger, b.name)
}

// plain turns hclog's own kinds of value into what slog prints well.
func plain(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		switch v := arg.(type) {
		case hclog.Format:
			out[i] = fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
		case hclog.Hex:
			out[i] = fmt.Sprintf("0x%x", int(v))
		case hclog.Octal:
			out[i] = fmt.Sprintf("0%o", int(v))
		case hclog.Binary:
			out[i] = fmt.Sprintf("0b%b", int(v))
		default:
			out[i] = arg
		}
	}
	return out
}

func slogLevel(level hclog.Level) slog.Level {
	switch level {
	case hclog.Trace:
		return LevelTrace
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	}
	return slog.LevelInfo
}

// linePattern finds the level and the component that memberlist, go-discover and others of their family put at the
// start of a line: "2026/11/23 00:00:00 [WARN]  memberlist: text".
var linePattern = regexp.MustCompile(`^(?:\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(?:\.\d+)? )?\[(TRACE|DEBUG|INFO|WARN|ERR|ERROR)\]\s*(?:([A-Za-z0-9_.-]+):\s+)?(.*)$`)

// LineWriter makes a writer for the standard library's logger of a library: each Write is a line, whose level in
// brackets becomes the slog level. Lines without one are Info.
func LineWriter(logger *slog.Logger, name string) io.Writer {
	return &lineWriter{logger: logger, name: name}
}

type lineWriter struct {
	logger *slog.Logger
	name   string
}

func (w *lineWriter) Write(p []byte) (int, error) {
	line := strings.TrimSpace(string(p))
	level, name := slog.LevelInfo, w.name
	if m := linePattern.FindStringSubmatch(line); m != nil {
		level, line = lineLevel(m[1]), m[3]
		if name == "" {
			name = m[2]
		}
	}
	var attrs []any
	if name != "" {
		attrs = []any{"component", name}
	}
	w.logger.Log(context.Background(), level, line, attrs...)
	return len(p), nil
}

func lineLevel(word string) slog.Level {
	switch word {
	case "TRACE":
		return LevelTrace
	case "DEBUG":
		return slog.LevelDebug
	case "WARN":
		return slog.LevelWarn
	case "ERR", "ERROR":
		return slog.LevelError
	}
	return slog.LevelInfo
}
