package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

// enum finds the value of an enum that a person's word names.
func enum[E interface {
	~int32
	protoreflect.Enum
}](text, flag string) (E, error) {
	var none E
	values := none.Descriptor().Values()
	var known []string
	for i := range values.Len() {
		value := E(values.Get(i).Number())
		name := word(value)
		if name == "" {
			continue
		}
		if name == strings.ToLower(text) {
			return value, nil
		}
		known = append(known, name)
	}
	return none, usagef("%s %s: it is one of %s", flag, text, strings.Join(known, ", "))
}

func newInstanceMessages(sh *shell) *cobra.Command {
	var (
		lane  string
		dead  bool
		limit int
	)
	c := onInstance("messages", "List an instance's unsettled messages, or its dead letters",
		"  sluice instance messages orders/4711\n  sluice instance messages orders/4711 --lane recovery\n  sluice instance messages orders/4711 --dead -o json",
		func(cmd *cobra.Command, at target) error {
			req := &sluicev1.ListMessagesRequest{Application: at.app, Instance: at.key, PageSize: 1000}
			if lane != "" {
				l, err := enum[sluicev1.Lane](lane, "--lane")
				if err != nil {
					return err
				}
				req.Lane = l
			}
			if dead {
				req.Settlement = sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED
			}
			if limit > 0 {
				req.PageSize = uint32(min(limit, 1000))
			}
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error { return sh.listMessages(ctx, c, req, limit) })
		})
	f := c.Flags()
	f.StringVar(&lane, "lane", "", "only this lane: normal, recovery or outgoing")
	f.BoolVar(&dead, "dead", false, "the dead letters instead of the unsettled")
	f.IntVar(&limit, "limit", 1000, "at most so many; 0 is all")
	return c
}

func (sh *shell) listMessages(ctx context.Context, c *client.Client, req *sluicev1.ListMessagesRequest, limit int) error {
	whole := &sluicev1.ListMessagesResponse{}
	for {
		page, err := ask[sluicev1.ListMessagesRequest, sluicev1.ListMessagesResponse](ctx, c, sluicev1connect.InstanceServiceListMessagesProcedure, req)
		if err != nil {
			return err
		}
		whole.Messages = append(whole.Messages, page.GetMessages()...)
		whole.NextPageToken, req.PageToken = page.GetNextPageToken(), page.GetNextPageToken()
		if req.PageToken == "" || limit > 0 && len(whole.Messages) >= limit {
			break
		}
	}
	if err := list(sh, whole, whole.Messages, []string{"SEQ", "LANE", "TYPE", "ID", "STATUS", "ATTEMPTS", "IN DOUBT", "BYTES", "LAST ERROR"}, func(t *table, m *sluicev1.ListedMessage) {
		t.row(m.GetSeq(), m.GetLane(), m.GetMessage().GetType(), m.GetMessage().GetId(), m.GetStatus(), m.GetAttempts(), m.GetInDoubt(), len(m.GetMessage().GetData()),
			firstOf(m.GetLastError(), m.GetDeadLetter().GetLastError(), m.GetDeadLetter().GetReason()))
	}); err != nil {
		return err
	}
	if whole.NextPageToken != "" {
		sh.say("there are more than %d; see them with --limit 0", limit)
	}
	return nil
}

func newInstanceResolve(sh *shell) *cobra.Command {
	var (
		req          sluicev1.ResolveMessageRequest
		lane, action string
		data         string
	)
	c := onInstance("resolve", "Skip, dead-letter or replace one unsettled message, by an operator's hand",
		"  sluice instance resolve orders/4711 --seq 17 --action skip --reason 'done by telephone'\n  sluice instance resolve orders/4711 --seq 17 --action replace --data @fixed.json\n  sluice instance resolve orders/4711 --seq 17 --action replace --data @fixed.json --version 9d1f…    # only if it is as peek showed it",
		func(cmd *cobra.Command, at target) error {
			if err := fillResolve(sh, cmd, &req, lane, action, data); err != nil {
				return err
			}
			req.Application, req.Instance = at.app, at.key
			orNewID(&req.RequestId)
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				s, err := client.Call[sluicev1.ResolveMessageRequest, sluicev1.MessageStatus](ctx, c, sluicev1connect.InstanceServiceResolveMessageProcedure, &req)
				if err != nil {
					return repeatable(err, "request-id", req.RequestId)
				}
				return sh.answer(s, func(t *table) { fillStatus(t, s) })
			})
		})
	f := c.Flags()
	f.Uint64Var(&req.Seq, "seq", 0, "sequence number of the message (required)")
	f.StringVar(&lane, "lane", "normal", "lane of the message: normal or recovery")
	f.StringVar(&req.Version, "version", "", "only if the message still has this version, as peek shows it")
	f.StringVar(&action, "action", "", "skip, dead-letter or replace (required)")
	f.StringVar(&data, "data", "", "for replace, the new content: TEXT, - for standard input, or @FILE")
	f.StringVar(&req.Reason, "reason", "operator", "why; it stands with the message")
	requestIDFlag(c, &req.RequestId)
	return c
}

func fillResolve(sh *shell, cmd *cobra.Command, req *sluicev1.ResolveMessageRequest, lane, action, data string) (err error) {
	if req.Seq == 0 {
		return usagef("which message? give its sequence number with --seq N")
	}
	if action == "" {
		return usagef("what shall become of it? give --action skip, dead-letter or replace")
	}
	if req.Lane, err = enum[sluicev1.Lane](lane, "--lane"); err != nil {
		return err
	}
	if req.Action, err = enum[sluicev1.ResolveAction](action, "--action"); err != nil {
		return err
	}
	replaces := req.Action == sluicev1.ResolveAction_ACTION_REPLACE
	if given := cmd.Flags().Changed("data"); given != replaces {
		return usagef("--data goes with --action replace, and only with it")
	}
	if req.Data, err = sh.content(data); err != nil {
		return fmt.Errorf("resolve: %w", err)
	}
	return nil
}
