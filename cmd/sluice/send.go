package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

// maxData is the largest content that is read from a file or from standard input.
const maxData = 64 << 20

// composed is the message that "send" or "request" sends, as the flags say.
type composed struct {
	message sluicev1.Message
	headers []string
	data    string
	expire  time.Duration
	await   bool
}

func newSend(sh *shell) *cobra.Command {
	var (
		o  composed
		at target
	)
	c := &cobra.Command{
		Use: "send APP/KEY --type TYPE", Short: "Send one message to an instance, and print its receipt", Args: cobra.MaximumNArgs(1),
		Long: `Sends one message. The receipt says whether it was accepted or deferred, and is printed when a majority's disks hold the
message. The content is --data TEXT; --data - reads standard input, --data @FILE a file.`,
		Example: `  sluice send orders/4711 --type order.placed --data '{"total": 12}'
  sluice send orders/4711 --type order.scan --data @scan.pdf --content-type application/pdf --header source=desk
  sluice send orders/4711 --type order.price --await        # wait for the reply and print it`,
	}
	at.flags(c)
	f := c.Flags()
	o.flags(f)
	f.BoolVar(&o.await, "await", false, "wait until the message is settled, and print how it ended and the reply")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := at.take(args); err != nil {
			return err
		}
		if err := o.complete(sh, at); err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			r, err := sh.send(ctx, c, &o.message)
			switch {
			case err != nil:
				return err
			case o.await: // its end is printed, not its beginning
				status, err := sh.awaitEnd(cmd.Context(), c, at, r.GetMessageId(), sh.timeout)
				if err != nil {
					return endUnknown(at, r, err)
				}
				return sh.ended(at, status)
			}
			return sh.answer(r, func(t *table) { fillReceipt(t, r) })
		})
	}
	return c
}

// flags are those that describe the message.
func (o *composed) flags(f *pflag.FlagSet) {
	f.StringVar(&o.message.Type, "type", "", "type of the message (required)")
	f.StringVar(&o.message.Id, "id", "", "id, unique within the instance: repeated under the same one it has no second effect (default: a new one)")
	f.StringVar(&o.message.Transaction, "transaction", "", "transaction (default: the instance's own)")
	f.StringVar(&o.message.Source, "source", "", "where the message comes from")
	f.StringVar(&o.message.ContentType, "content-type", "", "type of the content")
	f.StringArrayVar(&o.headers, "header", nil, "a header, NAME=VALUE; may be given more than once")
	f.StringVar(&o.data, "data", "", "content: TEXT, - for standard input, or @FILE")
	f.DurationVar(&o.expire, "expire", 0, "settle the message as expired if it was not delivered after this time; 0 is never")
}

// complete fills the message in from the flags.
func (o *composed) complete(sh *shell, at target) (err error) {
	m := &o.message
	m.Application, m.Instance, m.AwaitReply = at.app, at.key, o.await
	if m.Type == "" {
		return usagef("which type? give it with --type TYPE")
	}
	if m.Headers, err = pairs(o.headers); err != nil {
		return err
	}
	if o.expire < 0 {
		return usagef("--expire %v: a time is not negative", o.expire)
	}
	if o.expire > 0 {
		m.ExpireTime = timestamppb.New(sh.now().Add(o.expire))
	}
	orNewID(&m.Id)
	m.Data, err = sh.content(o.data)
	return err
}

// pairs reads NAME=VALUE texts.
func pairs(texts []string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	all := make(map[string]string, len(texts))
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usagef("--header %q: a header is written NAME=VALUE", text)
		}
		if _, twice := all[name]; twice {
			return nil, usagef("--header %q: the name was given before", text)
		}
		all[name] = value
	}
	return all, nil
}

// content reads what --data names.
func (sh *shell) content(data string) ([]byte, error) {
	file, isFile := strings.CutPrefix(data, "@")
	if !isFile && data != "-" {
		return []byte(data), nil
	}
	all, err := sh.readWhole(file, maxData)
	if err != nil {
		return nil, fmt.Errorf("read the content: %w", err)
	}
	return all, nil
}

// send sends one message and gives its receipt.
func (sh *shell) send(ctx context.Context, c *client.Client, m *sluicev1.Message) (*sluicev1.Receipt, error) {
	answer, err := client.Call[sluicev1.SendRequest, sluicev1.SendResponse](ctx, c, sluicev1connect.MessageServiceSendProcedure, &sluicev1.SendRequest{Messages: []*sluicev1.Message{m}})
	if err != nil {
		return nil, perhapsAccepted(err, m.GetId())
	}
	if len(answer.GetResults()) != 1 {
		return nil, perhapsAccepted(fmt.Errorf("the node answered %d results for one message", len(answer.GetResults())), m.GetId())
	}
	result := answer.GetResults()[0]
	if err := faultError(result.GetError()); err != nil {
		return nil, perhapsAccepted(err, m.GetId())
	}
	return result.GetReceipt(), nil
}

// perhapsAccepted names the message in an error of its sending that leaves open whether it was accepted: the user may
// not know the id, and needs it to send the same message again.
func perhapsAccepted(err error, id string) error {
	var e *client.Error
	isCall := errors.As(err, &e)
	switch {
	case isCall && !e.Uncertain && (e.Reason != "" && e.Code != unknownCode || e.Code == "unavailable" || e.Code == "canceled"):
		return err // refused, or not done
	case isCall && e.Reason != "" && e.Code != unknownCode: // refused, but an earlier attempt may have come through
		return fmt.Errorf("%w; an earlier attempt of message %s may have been accepted: see sluice await … --id %s", err, id, id)
	}
	unknown := &client.Error{Code: unknownCode, Reason: client.ErrOutcomeUnknown, Message: fmt.Sprintf("message %s may or may not have been accepted: %v", id, err)}
	return repeatable(unknown, "id", id)
}

// endUnknown is an error of waiting for the end of a message that has a receipt. It must not look as if nothing had
// been accepted.
func endUnknown(at target, r *sluicev1.Receipt, err error) error {
	said := fmt.Sprintf("message %s was accepted (seq %d, %s)", r.GetMessageId(), r.GetSeq(), word(r.GetDisposition()))
	next := fmt.Sprintf("sluice await %s --id %s", at.String(), r.GetMessageId())
	if errors.Is(err, errNotSettled) {
		return fmt.Errorf("%s and %w", said, err)
	}
	return hint(&client.Error{Code: unknownCode, Message: fmt.Sprintf("%s, but its end is not known: %v", said, err)}, "%s", next)
}

func fillReceipt(t *table, r *sluicev1.Receipt) {
	t.head = []string{"ID", "SEQ", "DISPOSITION", "MODE", "EPOCH", "AHEAD", "DUPLICATE"}
	t.row(r.GetMessageId(), r.GetSeq(), r.GetDisposition(), r.GetMode(), r.GetEpoch(), r.GetAhead(), r.GetDuplicate())
}

func newAwait(sh *shell) *cobra.Command {
	var id string
	c := onInstance("await", "Wait until a message is settled, and print how it ended and the reply",
		"  sluice await orders/4711 --id 0190b3a2\n  sluice await orders/4711 --id 0190b3a2 --timeout 5m",
		func(cmd *cobra.Command, at target) error {
			if id == "" {
				return usagef("which message? give its id with --id ID")
			}
			return sh.withClient(cmd, func(_ context.Context, c *client.Client) error { return sh.await(cmd.Context(), c, at, id) })
		})
	c.Flags().StringVar(&id, "id", "", "id of the message (required)")
	return c
}

// errNotSettled is a wait that was over before its message was settled.
var errNotSettled = errors.New("is not settled yet")

// awaitStep is how long one Await call waits at the node: well below the time that one attempt of a call has.
const awaitStep = 5 * time.Second

// await waits for the end of a message until --timeout, and prints it.
func (sh *shell) await(ctx context.Context, c *client.Client, at target, id string) error {
	status, err := sh.awaitEnd(ctx, c, at, id, sh.timeout)
	switch {
	case errors.Is(err, errNotSettled):
		return fmt.Errorf("message %s %w", id, err)
	case err != nil:
		return err
	}
	return sh.ended(at, status)
}

// awaitEnd waits for the end of a message for a time, 0 is without end; the status so far is always known when the
// time is over. That no node answers for a while, as during an election, does not end the wait.
func (sh *shell) awaitEnd(ctx context.Context, c *client.Client, at target, id string, wait time.Duration) (*sluicev1.MessageStatus, error) {
	until := sh.now().Add(wait)
	for {
		step := awaitStep
		if wait > 0 {
			step = max(min(step, until.Sub(sh.now())), time.Millisecond)
		}
		status, err := ask[sluicev1.AwaitRequest, sluicev1.MessageStatus](ctx, c, sluicev1connect.MessageServiceAwaitProcedure,
			&sluicev1.AwaitRequest{Application: at.app, Instance: at.key, Id: id, Timeout: durationpb.New(step)})
		over := wait > 0 && !sh.now().Before(until) || ctx.Err() != nil
		switch {
		case err != nil && (over || connectCode(err) != client.ErrNoLeader.Code()):
			return nil, err
		case err != nil:
		case status.GetStatus() == sluicev1.Status_MESSAGE_STATUS_SETTLED:
			return status, nil
		case over:
			return nil, hint(fmt.Errorf("%w: %s", errNotSettled, word(status.GetStatus())), "it is safe in the inbox; see the instance's mode: sluice instance get %s; wait on: sluice await %s --id %s --timeout 5m", at.String(), at.String(), id)
		}
	}
}

// ended prints how a message ended. One that did not complete is an error after its status was printed.
func (sh *shell) ended(at target, status *sluicev1.MessageStatus) error {
	if err := sh.answer(status, func(t *table) { fillStatus(t, status) }); err != nil {
		return err
	}
	return completed(at, status)
}

// completed is an error if a message ended otherwise.
func completed(at target, status *sluicev1.MessageStatus) error {
	if status.GetSettlement() == sluicev1.SettlementKind_SETTLEMENT_COMPLETED {
		return nil
	}
	why := word(status.GetSettlement())
	if d := status.GetDeadLetter(); d.GetLastError() != "" {
		why += ": " + d.GetLastError()
	}
	return hint(fmt.Errorf("message %s was not completed: %s", status.GetMessageId(), why), "see the dead letters: sluice instance messages %s --dead", at.String())
}

func fillStatus(t *table, s *sluicev1.MessageStatus) {
	t.row("id", s.GetMessageId())
	t.row("seq", s.GetSeq())
	t.row("status", s.GetStatus())
	t.row("settlement", s.GetSettlement())
	t.row("disposition", s.GetDisposition())
	if s.GetAttempts() > 0 {
		t.row("failed attempts", s.GetAttempts())
	}
	if d := s.GetDeadLetter(); d != nil {
		t.row("dead letter", d.GetReason())
		t.row("last error", d.GetLastError())
	}
	fillEdits(t, s.GetEdits())
	if s.Reply != nil {
		t.row("reply", s.GetReply())
	}
}
