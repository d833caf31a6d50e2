package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

func newInstanceExplain(sh *shell) *cobra.Command {
	var stale bool
	c := onInstance("explain", "Tell what holds an instance, and what would release it",
		"  sluice instance explain orders/4711\n  sluice instance explain orders/4711 -o json\n  sluice instance get orders/4711 -o wide    # the same, with all that is known of it",
		func(cmd *cobra.Command, at target) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				e, err := explainInstance(ctx, c, at, stale)
				if err != nil {
					return err
				}
				return sh.answer(e, func(t *table) {
					i := e.GetInstance()
					t.row("instance", i.GetApplication()+"/"+i.GetKey())
					t.row("mode", i.GetMode())
					t.row("for", sh.since(i.GetModeTime()))
					fillAsOf(t, i)
					sh.fillHolds(t, e)
				})
			})
		})
	c.Flags().BoolVar(&stale, "stale", false, "read what the asked node knows by itself")
	return c
}

func explainInstance(ctx context.Context, c *client.Client, at target, stale bool) (*sluicev1.Explanation, error) {
	return ask[sluicev1.GetInstanceRequest, sluicev1.Explanation](ctx, c, sluicev1connect.InstanceServiceExplainProcedure,
		&sluicev1.GetInstanceRequest{Application: at.app, Instance: at.key, Stale: stale})
}

// fillHolds lists what holds an instance, what to see to first at the top.
func (sh *shell) fillHolds(t *table, e *sluicev1.Explanation) {
	if len(e.GetHolds()) == 0 {
		t.row("held by", "nothing")
	}
	for _, h := range e.GetHolds() {
		t.row("held by", word(h.GetKind())+": "+h.GetText())
		t.row("released by", h.GetRelease())
		if h.GetUntil() != nil {
			t.row("ends by itself", sh.when(h.GetUntil()))
		}
	}
}

// when prints a time to come, and in how long it is.
func (sh *shell) when(at *timestamppb.Timestamp) string {
	in := at.AsTime().Sub(sh.now())
	if in <= 0 {
		return cell(at) + ", now due"
	}
	return fmt.Sprintf("%s, in %v", cell(at), max(in.Round(time.Second), time.Second))
}

// printExplained prints an instance with all that is known of it.
func (sh *shell) printExplained(e *sluicev1.Explanation) error {
	t := &table{}
	sh.fillInstance(t, e.GetInstance())
	t.row("began by", e.GetActor())
	if e.GetInstance().GetOwner() != "" {
		t.row("owner's name", e.GetOwnerName())
	}
	if h := e.GetHead(); h != nil {
		t.row("head", fmt.Sprintf("seq %d (%s, %s), %s, %s old", h.GetSeq(), h.GetMessage().GetType(), h.GetMessage().GetId(), word(h.GetStatus()), sh.since(h.GetTime())))
		for _, a := range h.GetAttemptHistory() {
			t.row("attempt", fmt.Sprintf("%d at %s: %s", a.GetNumber(), cell(a.GetTime()), a.GetError()))
		}
	}
	if n := e.GetInDoubtMessages(); n > 0 {
		t.row("in doubt", n)
	}
	if e.GetUntil() != nil {
		t.row("until", sh.when(e.GetUntil()))
	}
	if n := e.GetRecoveryAttempts(); n > 0 {
		t.row("recovery failed", fmt.Sprintf("%d times, last: %s", n, firstOf(e.GetRecoveryError(), "no reason given")))
	}
	t.row("workers", fmt.Sprintf("%d connected, %d with room", e.GetSessions(), e.GetSessionsWithRoom()))
	t.row("dead letters", e.GetDeadLetters())
	sh.fillHolds(t, e)
	return t.write(sh.out, sh.colored())
}
