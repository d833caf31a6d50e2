package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

// pollInterval is how often a waiting command looks again.
const pollInterval = 250 * time.Millisecond

func newInstanceWatch(sh *shell) *cobra.Command {
	var follow bool
	c := onInstance("watch", "Watch an instance until it is in normal mode: how it stands, then each event",
		"  sluice instance watch orders/4711\n  sluice instance watch orders/4711 --timeout 10m -o jsonl\n  sluice instance watch orders/4711 -f    # go on when it is normal",
		func(cmd *cobra.Command, at target) error {
			return sh.withClient(cmd, func(_ context.Context, c *client.Client) error { return sh.watch(cmd.Context(), c, at, follow) })
		})
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on when it is in normal mode")
	return c
}

// watch prints how an instance stands and then what happens to it, until it is normal. A cluster that does not answer
// for a while is waited for.
func (sh *shell) watch(ctx context.Context, c *client.Client, at target, follow bool) error {
	ctx, cancel := sh.patient(ctx)
	defer cancel()
	// The place is taken before the instance is read: what comes in between is told twice rather than not at all.
	from, err := presentIndex(ctx, c)
	if err != nil {
		return sh.watchOver(ctx, c, at, nil, err)
	}
	i, err := getInstance(ctx, c, at, false)
	if err != nil {
		return sh.watchOver(ctx, c, at, nil, err)
	}
	if err := sh.watchLine(i); err != nil || !follow && i.GetMode() == sluicev1.Mode_MODE_NORMAL {
		return err
	}
	if i.GetTerminated() {
		return terminated(at)
	}
	for res, err := range c.WatchResponses(ctx, &sluicev1.WatchRequest{Application: at.app, Instance: at.key, SinceIndex: from}) {
		if err != nil && follow && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return sh.watchOver(ctx, c, at, i, err)
		}
		e := res.GetEvent()
		if e == nil {
			continue
		}
		if err := sh.watchEvent(e); err != nil {
			return err
		}
		if e.GetInstance() != "" {
			i.Mode, i.DeferredMessages = e.GetMode(), e.GetDeferredMessages()
		}
		switch {
		case e.GetType() == sluicev1.EventType_EVENT_INSTANCE_TERMINATED:
			return terminated(at)
		case !follow && turnedNormal(e):
			return nil
		}
	}
	return nil
}

// turnedNormal tells that an instance is in normal mode from this event on.
func turnedNormal(e *sluicev1.Event) bool {
	return e.GetType() == sluicev1.EventType_EVENT_RECOVERY_COMPLETED || e.GetType() == sluicev1.EventType_EVENT_DRAINED
}

func terminated(at target) error {
	return &client.Error{Code: client.ErrTerminated.Code(), Reason: client.ErrTerminated, Message: at.String() + " was terminated: nothing more happens to it"}
}

// presentIndex is an index up to which everything has happened by now.
func presentIndex(ctx context.Context, c *client.Client) (uint64, error) {
	for res, err := range c.WatchResponses(ctx, &sluicev1.WatchRequest{FromNow: true, UntilNow: true}) {
		if err != nil {
			return 0, watchFailed(err)
		}
		if res.GetEvent() == nil {
			return res.GetIndex(), nil
		}
	}
	return 0, errors.New("the node tells of no place to watch from")
}

// waitNormal looks at an instance again and again until it is normal, and shows how far its draining is.
func (sh *shell) waitNormal(ctx context.Context, c *client.Client, at target) error {
	ctx, cancel := sh.patient(ctx)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	bar := sh.newBar("draining")
	defer bar.clear()
	var last *sluicev1.Instance
	var held uint64
	for {
		now, err := getInstance(ctx, c, at, false)
		if ctx.Err() != nil {
			return sh.watchOver(ctx, c, at, last, ctx.Err())
		}
		if err != nil && (connectCode(err) != "unavailable" || misfit(err)) {
			return err
		}
		if err == nil {
			held = max(held, now.GetDeferredMessages())
			bar.show(held-now.GetDeferredMessages(), held, word(now.GetMode()))
			if now.GetMode() == sluicev1.Mode_MODE_NORMAL {
				bar.clear()
				return sh.watchLine(now)
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return sh.watchOver(ctx, c, at, last, ctx.Err())
		case <-tick.C:
		}
	}
}

// watchOver is the end of a watch before its instance was normal.
func (sh *shell) watchOver(ctx context.Context, c *client.Client, at target, last *sluicev1.Instance, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("watch %s: interrupted", at.String())
	}
	if last == nil {
		return &client.Error{Code: client.ErrNoLeader.Code(), Reason: client.ErrNoLeader, Message: "how " + at.String() + " stands is not known: no answer in time"}
	}
	late := &client.Error{Code: client.ErrNoLeader.Code(), Message: fmt.Sprintf("%s is not normal yet: %s, %d deferred", at.String(), word(last.GetMode()), last.GetDeferredMessages())}
	if last.GetMode() == sluicev1.Mode_MODE_DRAINING {
		return hint(late, "draining needs a running worker: sluice worker exec --app %s -- COMMAND", at.app)
	}
	return hint(late, "complete its recovery with: %s; draining needs a running worker", howToComplete(ctx, c, at))
}

// howToComplete is the command that completes an instance's recovery, as the instance stands now. It is asked for when
// the time of the command is over, and is given a moment of its own.
func howToComplete(ctx context.Context, c *client.Client, at target) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	d := doubt{at: at}
	if i, err := getInstance(ctx, c, at, false); err == nil {
		if read, err := readDoubt(ctx, c, i); err == nil {
			d = read
		}
	}
	return d.command()
}

const watchFormat = "%-12s  %-9s  %8v  %8v  %-18s  %s\n"

// watchLine prints how an instance stands, under the head of the lines to come.
func (sh *shell) watchLine(i *sluicev1.Instance) error {
	if sh.output != "table" {
		return sh.writeJSON(i)
	}
	if _, err := fmt.Fprintf(sh.out, watchFormat, "TIME", "MODE", "EPOCH", "DEFERRED", "EVENT", "DETAIL"); err != nil {
		return err
	}
	return sh.watchRow(timestamppb.New(sh.now()), i.GetMode(), i.GetEpoch(), i.GetDeferredMessages(), "", i.GetCause())
}

// watchEvent prints an event of a watched instance in the same columns.
func (sh *shell) watchEvent(e *sluicev1.Event) error {
	if sh.output != "table" {
		return sh.writeJSON(e)
	}
	deferred := any(e.GetDeferredMessages())
	if e.GetInstance() == "" { // that of the whole application
		deferred = "-"
	}
	text := e.GetDetail()
	if id := e.GetMessageId(); id != "" {
		text = joinWords(id, text)
	}
	return sh.watchRow(e.GetTime(), e.GetMode(), e.GetEpoch(), deferred, word(e.GetType()), text)
}

func joinWords(id, text string) string {
	if text == "" {
		return id
	}
	return id + ": " + text
}

func (sh *shell) watchRow(at *timestamppb.Timestamp, mode sluicev1.Mode, epoch uint64, deferred any, event, detail string) error {
	_, err := fmt.Fprintf(sh.out, watchFormat, at.AsTime().Local().Format("15:04:05.000"), word(mode), epoch, deferred, cell(event), cell(detail))
	return err
}
