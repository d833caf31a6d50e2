// Command request shows a request and its reply where the instance cannot answer just now: the caller is told at once
// that its question is held, and behind how many messages. It need not wait. Whoever has the question's id attaches to it
// later, from another process if need be, and gets the reply.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// application is the sample application: shops, each an instance.
const application = "shops"

// tea is the shop that is asked.
var tea = client.InstanceID{Application: application, Key: "tea"}

// patience is how long the caller waits.
const patience = 300 * time.Millisecond

func main() { stage.Main(request, nil) }

// stock is the state of a shop.
type stock struct {
	Pounds int `json:"pounds"`
}

// handle changes the stock, and answers who asks for it.
func handle(_ context.Context, tx *client.Tx[stock]) error {
	switch tx.Message.Type {
	case "stock.delivered":
		return tx.Message.DecodeJSON(tx.State)
	case "stock.asked":
		return tx.ReplyJSON(tx.State)
	}
	return client.Reject(fmt.Errorf("a shop knows no %s", tx.Message.Type))
}

// request tells the story.
func request(ctx context.Context, s *stage.Stage) error {
	s.Title("The application %q is declared, and hosted", application)
	if _, err := s.Client.Applications().Apply(ctx, client.Application{Name: application}); err != nil {
		return err
	}
	stop, err := s.Work(client.WorkerConfig{Application: application, Logger: stage.Quiet, Handler: client.Typed(client.Schema[stock]{}, handle)})
	if err != nil {
		return err
	}
	return errors.Join(stage.Chapters(atOnce, held, later)(ctx, s), stop())
}

// question asks the shop for its stock, under an id of the caller's.
func question(id string) client.Message {
	return client.Message{Application: tea.Application, Instance: tea.Key, ID: id, Type: "stock.asked"}
}

// deliver tells the shop how much it has.
func deliver(ctx context.Context, s *stage.Stage, pounds int) error {
	m, err := client.Message{Application: tea.Application, Instance: tea.Key, Type: "stock.delivered"}.WithJSON(stock{Pounds: pounds})
	if err != nil {
		return err
	}
	r, err := s.Client.Send(ctx, m)
	if err == nil {
		s.Say("delivered: %d pounds; the message is %s", pounds, r.Disposition)
	}
	return err
}

// atOnce is a request in normal mode.
func atOnce(ctx context.Context, s *stage.Stage) error {
	s.Title("In normal mode a question is answered at once")
	if err := deliver(ctx, s, 5); err != nil {
		return err
	}
	status, _, err := s.Client.Ask(ctx, question("ask-1"), nil)
	if err == nil {
		s.Say("ask-1: %s", status.Reply)
	}
	return err
}

// held is a request to an instance in recovery: the caller is told so, and gives up waiting.
func held(ctx context.Context, s *stage.Stage) error {
	s.Title("The stock is counted: %s is put into recovery, and deliveries are held", tea)
	if _, err := s.Client.Instances().EnterRecovery(ctx, tea, client.EnterRecovery{Cause: "stock count"}); err != nil {
		return err
	}
	for _, pounds := range []int{6, 7} {
		if err := deliver(ctx, s, pounds); err != nil {
			return err
		}
	}
	s.Title("Somebody asks, and has %v to wait", patience)
	short, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, p, err := s.Client.Ask(short, question("ask-2"), func(p *client.Pending) {
		s.Say("told at once: %s is in mode %s, the question is held behind %d messages", p.Instance, p.Receipt.Mode, p.Receipt.Ahead)
	})
	if p == nil || !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the question should be held, but: %v", err)
	}
	s.Say("no reply in time; the caller keeps two words: %s and %s", p.Instance, p.MessageID)
	return nil
}

// later attaches to the request, from another client.
func later(ctx context.Context, s *stage.Stage) error {
	s.Title("Later another process attaches to the question")
	other, err := client.Dial(ctx, client.Config{Addresses: []string{s.Addr}, Logger: stage.Quiet})
	if err != nil {
		return err
	}
	defer other.Close()
	p := other.Attach(tea, "ask-2")
	status, err := p.Status(ctx)
	if err != nil {
		return err
	}
	s.Say("it stands here: %s", status)
	s.Title("The count is over, the recovery is completed: what was held is handled, in order")
	if _, err := s.Client.Instances().CompleteRecovery(ctx, tea, client.CompleteRecovery{}); err != nil {
		return err
	}
	if status, err = p.Await(ctx); err != nil {
		return err
	}
	var got stock
	if err := status.DecodeReply(&got); err != nil {
		return err
	}
	s.Say("ask-2: %s, after the two deliveries before it", status.Reply)
	if got.Pounds != 7 {
		return fmt.Errorf("the stock is said to be %d", got.Pounds)
	}
	return again(ctx, s)
}

// again asks with the same id once more, as a caller does who does not know whether it has asked.
func again(ctx context.Context, s *stage.Stage) error {
	s.Title("The same question with the same id is the same question")
	if err := deliver(ctx, s, 8); err != nil {
		return err
	}
	status, p, err := s.Client.Ask(ctx, question("ask-2"), nil)
	if err != nil {
		return err
	}
	s.Say("ask-2: %s; duplicate: %v", status.Reply, p.Receipt.Duplicate)
	if status, _, err = s.Client.Ask(ctx, question("ask-3"), nil); err != nil {
		return err
	}
	s.Say("ask-3: %s", status.Reply)
	return nil
}
