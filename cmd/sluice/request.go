package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

func newRequest(sh *shell) *cobra.Command {
	var (
		o    composed
		at   target
		wait time.Duration
	)
	c := &cobra.Command{
		Use: "request APP/KEY --type TYPE", Short: "Send one message to an instance, wait for the reply, and print it", Args: cobra.MaximumNArgs(1),
		Long: `Sends one message and waits for the reply, which alone goes to standard output, as it is; with -o json the message's
status does. If the instance is held, that and how many messages are ahead is said on standard error at once. The wait
goes on through a change of leader. When --wait is over the message stays where it is: the reply can be had later with
"sluice await", or by the same request with the same --id, for the application's deduplication window.

Exit codes: 0 completed, 1 dead-lettered, skipped or expired, 3 unknown application, 5 no reply in time or no node,
6 refused by the gate, 7 it is not known whether the message was accepted, or, as the error says, how it ended: repeat
with the same --id.`,
		Example: `  sluice request prices/shop --type price.asked --data tea
  sluice request prices/shop --type price.asked --data tea --wait 10m --id ask-1
  sluice request prices/shop --type price.asked --data tea -o json`,
	}
	at.flags(c)
	f := c.Flags()
	o.flags(f)
	f.DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the reply, at most --timeout if that is given; 0 is without end")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := at.take(args); err != nil {
			return err
		}
		if wait < 0 {
			return usagef("--wait %v: a time is not negative", wait)
		}
		o.await = true
		if err := o.complete(sh, at); err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			receipt, err := sh.send(ctx, c, &o.message)
			if err != nil {
				return err
			}
			sh.sayDeferred(at, receipt)
			if sh.timed && sh.timeout > 0 && (wait == 0 || sh.timeout < wait) {
				wait = sh.timeout
			}
			status, err := sh.awaitEnd(cmd.Context(), c, at, receipt.GetMessageId(), wait)
			if err != nil {
				return endUnknown(at, receipt, err)
			}
			return sh.replied(at, status)
		})
	}
	return c
}

// sayDeferred says at once that a message is held, if it is. Of one that was sent before the receipt tells how it was
// then.
func (sh *shell) sayDeferred(at target, r *sluicev1.Receipt) {
	if r.GetDisposition() != sluicev1.Disposition_DISPOSITION_DEFERRED {
		return
	}
	how := fmt.Sprintf("deferred: %d ahead, %s is in mode %s", r.GetAhead(), at.String(), word(r.GetMode()))
	if r.GetDuplicate() {
		how = fmt.Sprintf("sent before, and deferred then: %d were ahead, %s was in mode %s", r.GetAhead(), at.String(), word(r.GetMode()))
	}
	sh.say("%s; attach with: sluice await %s --id %s", how, at.String(), r.GetMessageId())
}

// replied prints the reply, or with JSON the status. A message that did not complete is an error.
func (sh *shell) replied(at target, status *sluicev1.MessageStatus) error {
	if sh.output != "table" {
		if err := sh.writeJSON(status); err != nil {
			return err
		}
		return completed(at, status)
	}
	if err := completed(at, status); err != nil {
		return err
	}
	if status.Reply == nil {
		sh.say("message %s was completed without a reply", status.GetMessageId())
		return nil
	}
	reply := status.GetReply()
	if isTerminal(sh.out) {
		reply = forTerminal(reply)
	}
	_, err := sh.out.Write(reply)
	return err
}

// forTerminal ends a text with its line, and replaces what could drive a terminal.
func forTerminal(reply []byte) []byte {
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '.'
		}
		return r
	}, strings.ToValidUTF8(string(reply), "."))
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return []byte(text)
}
