package server

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// A server that is aborted ends at once with the cause, without the time that calls in progress would be given.
func TestAbortEndsAtOnce(t *testing.T) {
	t.Parallel()
	s, err := New(Config{
		NodeID: "n", DataDir: t.TempDir(), Listen: "127.0.0.1:0", BootstrapExpect: 1, Logger: slog.New(slog.DiscardHandler), DrainTime: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(context.Background()) }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	crash := errors.New("a crash")
	s.Abort(crash)
	select {
	case err := <-ended:
		if !errors.Is(err, crash) {
			t.Fatalf("it ended with %v", err)
		}
	case <-ctx.Done():
		t.Fatal("it did not end")
	}
}
