package obs

import (
	"context"
	"log/slog"
)

// Lower makes a logger that asks level, of each record, at which level it is to be told; that may only be a lower one.
// It is for libraries that take what is ordinary here for trouble. level is called by many goroutines.
func Lower(logger *slog.Logger, level func(slog.Record) slog.Level) *slog.Logger {
	return slog.New(&lowering{logger.Handler(), level})
}

type lowering struct {
	slog.Handler
	level func(slog.Record) slog.Level
}

func (l *lowering) Handle(ctx context.Context, r slog.Record) error {
	r.Level = min(r.Level, l.level(r))
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func (l *lowering) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lowering{l.Handler.WithAttrs(attrs), l.level}
}

func (l *lowering) WithGroup(name string) slog.Handler {
	return &lowering{l.Handler.WithGroup(name), l.level}
}
