// Package replay sends a recorded event log through Sluice: a case is an instance and its transaction, an event a
// message. Cases are interleaved by time, each in its own order; workers of its own handle the messages; a share of the
// cases is put into recovery on the way and completed later. What the workers handled is kept in a ledger, so that
// afterwards it can be proved, together with the cluster's own word, that every event was handled and settled once, in
// order, and never under an epoch of recovery.
package replay

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sluice/api/reason"
	"sluice/client"
)

// Config says how a log is replayed. The zero value of a field has the default that is named.
type Config struct {
	// Application takes the cases as its instances. It is created if it does not exist. Required.
	Application string
	// Speed is how much faster than it was recorded the log is replayed; 0: as fast as it goes.
	Speed float64
	// Senders send at once; each has cases of its own, so that the order within a case is kept. Default 8.
	Senders int
	// Workers handle at once. Default 2.
	Workers int
	// Recover is the share of cases, 0 to 1, that is put into recovery at a random moment and completed at a later one.
	Recover float64
	// Seed decides the random choices.
	Seed uint64
	// Cases is how many cases are replayed, from the log's beginning; 0: all.
	Cases int
	// Batch is how many messages go in one request, 1 to 1,024. Default 100.
	Batch int
	// Window is how many messages of an instance are out at once, 1 to 1,024, if the application is created. Default 8.
	Window int
	// Verify asks for the proof at the end.
	Verify bool
	// Patience is how long nothing may move before the replay gives up. Default 60 s.
	Patience time.Duration
	// Lease is the workers' time to live. Default 15 s.
	Lease time.Duration
	// Logger takes what the workers have to say. Default slog.Default().
	Logger *slog.Logger
	// Progress is told now and then how far the replay is; nil: nobody is. It is called by one goroutine at a time.
	Progress func(Progress)
	// Retries tells how often calls were repeated so far; nil: it is not known.
	Retries func() uint64
}

// Progress is how far a replay is.
type Progress struct {
	Sent, Handled, Total int
	// Phase is "send", "drain" or "verify".
	Phase string
}

func (c Config) withDefaults() Config {
	c.Senders = orDefault(c.Senders, 8)
	c.Workers = orDefault(c.Workers, 2)
	c.Batch = orDefault(c.Batch, 100)
	c.Window = orDefault(c.Window, 8)
	c.Patience = orDefault(c.Patience, time.Minute)
	c.Lease = orDefault(c.Lease, 15*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Retries == nil {
		c.Retries = func() uint64 { return 0 }
	}
	return c
}

func orDefault[N comparable](n, otherwise N) N {
	var zero N
	if n == zero {
		return otherwise
	}
	return n
}

// Validate says what is wrong with a configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case c.Application == "":
		return errors.New("an application is needed")
	case c.Speed < 0:
		return fmt.Errorf("the speed %v is negative", c.Speed)
	case c.Senders < 1 || c.Senders > 1024:
		return fmt.Errorf("%d senders: there can be 1 to 1024", c.Senders)
	case c.Workers < 1 || c.Workers > 256:
		return fmt.Errorf("%d workers: there can be 1 to 256", c.Workers)
	case !(c.Recover >= 0 && c.Recover <= 1):
		return fmt.Errorf("the share %v to recover is not between 0 and 100%%", c.Recover)
	case c.Cases < 0:
		return fmt.Errorf("%d cases: the number is negative", c.Cases)
	case c.Batch < 1 || c.Batch > client.MaxBatch:
		return fmt.Errorf("a batch of %d: there can be 1 to %d messages in one", c.Batch, client.MaxBatch)
	case c.Window < 1 || c.Window > 1024:
		return fmt.Errorf("a window of %d: it can be 1 to 1024", c.Window)
	case c.Patience < 0:
		return fmt.Errorf("a patience of %v: it is not negative", c.Patience)
	case c.Lease < time.Second || c.Lease > time.Hour:
		return fmt.Errorf("a lease of %v: it can be 1s to 1h", c.Lease)
	}
	return nil
}

// cause stands in the history of the recoveries that a replay begins; workers leave them to the replay.
const cause = "replay"

// waitable tells whether a call is worth repeating for as long as patience lasts.
func waitable(err error) bool {
	var e *client.Error
	return errors.As(err, &e) && (e.Temporary() || e.Code == reason.Rate.Code())
}
