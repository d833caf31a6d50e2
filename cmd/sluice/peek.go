package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

func newInstancePeek(sh *shell) *cobra.Command {
	var (
		req             sluicev1.ListMessagesRequest
		lane            string
		dead, data, was bool
	)
	c := onInstance("peek", "Show one message that an instance holds, with its content, attempts and edits",
		"  sluice instance peek orders/4711                # the first one\n  sluice instance peek orders/4711 --seq 17\n  sluice instance peek orders/4711 --seq 17 --data > content.json\n  sluice instance peek orders/4711 --seq 17 --dead",
		func(cmd *cobra.Command, at target) (err error) {
			if req.Lane, err = enum[sluicev1.Lane](lane, "--lane"); err != nil {
				return err
			}
			if data && was {
				return usagef("--data and --original: one of them")
			}
			if dead {
				req.Settlement = sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED
			}
			req.Application, req.Instance, req.PageSize = at.app, at.key, 1
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				m, err := peek(ctx, c, &req)
				switch {
				case err != nil:
					return err
				case data:
					_, err := sh.out.Write(m.GetMessage().GetData())
					return err
				case was:
					return sh.printOriginal(m)
				}
				return sh.answer(m, func(t *table) { fillListed(t, m) })
			})
		})
	f := c.Flags()
	f.Uint64Var(&req.FromSeq, "seq", 0, "sequence number of the message; 0 is the first of the lane")
	f.StringVar(&lane, "lane", "normal", "lane of the message: normal, recovery, or, of dead letters, outgoing")
	f.BoolVar(&dead, "dead", false, "a dead letter instead of an unsettled message")
	f.BoolVar(&data, "data", false, "write its content alone, as it is")
	f.BoolVar(&was, "original", false, "write the content as first sent alone, of a message that was replaced")
	return c
}

// peek finds the message of a sequence number, or the first of the lane.
func peek(ctx context.Context, c *client.Client, req *sluicev1.ListMessagesRequest) (*sluicev1.ListedMessage, error) {
	page, err := ask[sluicev1.ListMessagesRequest, sluicev1.ListMessagesResponse](ctx, c, sluicev1connect.InstanceServiceListMessagesProcedure, req)
	if err != nil {
		return nil, err
	}
	what := "unsettled message"
	if req.Settlement != 0 {
		what = "dead letter"
	}
	switch {
	case len(page.GetMessages()) > 0 && (req.FromSeq == 0 || page.GetMessages()[0].GetSeq() == req.FromSeq):
		return page.GetMessages()[0], nil
	case req.FromSeq == 0:
		return nil, reason.UnknownMessage.Errorf("%s/%s holds no %s in the %s lane", req.Application, req.Instance, what, word(req.Lane))
	default:
		return nil, reason.UnknownMessage.Errorf("%s/%s holds no %s with seq %d in the %s lane", req.Application, req.Instance, what, req.FromSeq, word(req.Lane))
	}
}

func (sh *shell) printOriginal(m *sluicev1.ListedMessage) error {
	if m.OriginalData == nil {
		return fmt.Errorf("seq %d was not replaced: its content is as first sent; see it with --data", m.GetSeq())
	}
	_, err := sh.out.Write(m.GetOriginalData())
	return err
}

// fillListed shows all that is known of a message, its content last.
func fillListed(t *table, l *sluicev1.ListedMessage) {
	m := l.GetMessage()
	t.row("id", m.GetId())
	t.row("seq", l.GetSeq())
	t.row("lane", l.GetLane())
	t.row("type", m.GetType())
	for _, pair := range [][2]string{{"transaction", m.GetTransaction()}, {"source", m.GetSource()}, {"content type", m.GetContentType()}} {
		if pair[1] != "" {
			t.row(pair[0], pair[1])
		}
	}
	names := make([]string, 0, len(m.GetHeaders()))
	for name := range m.GetHeaders() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.row("header", name+"="+m.GetHeaders()[name])
	}
	t.row("accepted", l.GetTime())
	if m.GetExpireTime() != nil {
		t.row("expires", m.GetExpireTime())
	}
	t.row("status", l.GetStatus())
	if l.GetInDoubt() {
		t.row("in doubt", true)
	}
	if d := l.GetDeadLetter(); d != nil {
		t.row("dead letter", d.GetReason())
		t.row("since", d.GetTime())
		t.row("fingerprint", d.GetFingerprint())
	}
	t.row("failed attempts", l.GetAttempts())
	for _, a := range l.GetAttemptHistory() {
		t.row("attempt", fmt.Sprintf("%d at %s: %s", a.GetNumber(), cell(a.GetTime()), a.GetError()))
	}
	fillEdits(t, l.GetEdits())
	t.row("version", l.GetVersion())
	if l.OriginalData != nil {
		t.row("original", fmt.Sprintf("%s: %s", size(uint64(len(l.GetOriginalData()))), cell(l.GetOriginalData())))
	}
	t.row("content", fmt.Sprintf("%s: %s", size(uint64(len(m.GetData()))), cell(m.GetData())))
}

func fillEdits(t *table, edits []*sluicev1.Edit) {
	for _, e := range edits {
		t.row("edit", fmt.Sprintf("%s at %s by %s: %s", e.GetAction(), cell(e.GetTime()), firstOf(e.GetActor(), "unknown"), firstOf(e.GetReason(), "no reason given")))
	}
}
