package client

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// Result is what became of one message of a batch: a receipt, or an error (*Error).
type Result struct {
	Receipt Receipt
	Err     error
}

// Send offers one message and returns its receipt once a quorum's disks hold it. An empty id is filled in before the
// first attempt, so that all attempts are of one message. Of the errors, ErrOutcomeUnknown alone leaves open whether
// the message was accepted: the same Send with the id that the *Error tells is safe.
//
// Sends of many goroutines at once are gathered into few requests, as a Sender does; a message never waits for company. While
// requests of gathered messages are under way further messages go with the next of them; else two at a time have a request
// each, under their own contexts.
func (c *Client) Send(ctx context.Context, m Message) (Receipt, error) {
	if c.gather.busy() {
		return c.gather.Send(ctx, m)
	}
	select {
	case c.alone <- struct{}{}:
		defer func() { <-c.alone }()
		return c.sendAlone(ctx, m)
	default:
		return c.gather.Send(ctx, m)
	}
}

func (c *Client) sendAlone(ctx context.Context, m Message) (Receipt, error) {
	if m.ID == "" {
		m.ID = NewID()
	}
	results, err := c.SendBatch(ctx, []Message{m})
	if err != nil {
		return Receipt{}, withMessageID(err, m.ID)
	}
	return results[0].Receipt, withMessageID(results[0].Err, m.ID)
}

func withMessageID(err error, id string) error {
	if err == nil {
		return nil
	}
	e := *asError(err)
	e.MessageID = id
	return &e
}

// SendBatch offers messages, each judged alone, in requests of at most 1,024 messages, one after the other, so that
// the order is kept per instance. There is a result for each message. The error is that of the request that could not
// be carried out, if any; its messages' results and those of all that follow carry it, too.
func (c *Client) SendBatch(ctx context.Context, messages []Message) ([]Result, error) {
	results := make([]Result, len(messages))
	wire := make([]*sluicev1.Message, 0, len(messages))
	at := make([]int, 0, len(messages)) // wire[i] is messages[at[i]]
	for i := range messages {
		m := messages[i]
		if m.ID == "" {
			m.ID = NewID()
		}
		if err := checkMessage(&m); err != nil {
			results[i].Err = err
			continue
		}
		wire, at = append(wire, m.proto()), append(at, i)
	}
	for len(wire) > 0 {
		n := requestLength(wire)
		answers, err := c.sendRequest(ctx, wire[:n], how{})
		if err != nil {
			for _, i := range at {
				results[i].Err = err
			}
			return results, err
		}
		for k, answer := range answers {
			results[at[k]] = answer
		}
		wire, at = wire[n:], at[n:]
	}
	return results, nil
}

// requestLength is how many messages from the first on go in one request: at least one.
func requestLength(messages []*sluicev1.Message) int {
	bytes := 0
	for i, m := range messages {
		bytes += len(m.GetData())
		if i == MaxBatch || i > 0 && bytes > maxBatchBytes {
			return i
		}
	}
	return len(messages)
}

// sendRequest is one request; its results are as many as its messages.
func (c *Client) sendRequest(ctx context.Context, messages []*sluicev1.Message, h how) ([]Result, error) {
	res, err := call[sluicev1.SendRequest, sluicev1.SendResponse](ctx, c, sluicev1connect.MessageServiceSendProcedure,
		&sluicev1.SendRequest{Messages: messages}, h)
	if err != nil {
		return nil, err
	}
	return resultsOf(res, messages)
}

// sendGathered is one request of many Sends: over a stream, or by a call if that comes to nothing.
func (c *Client) sendGathered(messages []*sluicev1.Message) ([]Result, error) {
	res, uncertain := c.ingests.send(&sluicev1.SendRequest{Messages: messages})
	if res == nil {
		return c.sendRequest(context.Background(), messages, how{uncertain: uncertain})
	}
	return resultsOf(res, messages)
}

// resultsOf is a result for each message.
func resultsOf(res *sluicev1.SendResponse, messages []*sluicev1.Message) ([]Result, error) {
	if len(res.GetResults()) != len(messages) {
		return nil, &Error{Code: "internal", Message: "the node answered with a wrong number of results", Uncertain: true}
	}
	out := make([]Result, len(messages))
	for i, r := range res.GetResults() {
		if e := faultError(r.GetError(), ""); e != nil {
			e.MessageID = messages[i].GetId()
			out[i].Err = e
			continue
		}
		out[i].Receipt = receiptOf(r.GetReceipt())
	}
	return out, nil
}

// Get tells the status of one message.
func (c *Client) Get(ctx context.Context, id InstanceID, messageID string) (MessageStatus, error) {
	if err := checkInstance(id); err != nil {
		return MessageStatus{}, err
	}
	res, err := Call[sluicev1.GetMessageRequest, sluicev1.MessageStatus](ctx, c, sluicev1connect.MessageServiceGetProcedure,
		&sluicev1.GetMessageRequest{Application: id.Application, Instance: id.Key, Id: messageID})
	if err != nil {
		return MessageStatus{}, err
	}
	return messageStatusOf(res), nil
}

// awaitSlice is how long one request waits at the node.
const awaitSlice = 20 * time.Second

// Await waits until the message is settled. It returns its status, and with it a *SettledError (ErrSkipped,
// ErrDeadLettered, ErrExpired) if it was not completed. When ctx ends first it returns the last status known and an
// error that wraps ctx's; it is ErrEndUnknown if a request was under way, as when a connection broke. It takes the
// reply, if there is one: Message.AwaitReply keeps it for those who ask later.
func (c *Client) Await(ctx context.Context, id InstanceID, messageID string) (MessageStatus, error) {
	if err := checkInstance(id); err != nil {
		return MessageStatus{}, err
	}
	var last MessageStatus
	for {
		res, err := call[sluicev1.AwaitRequest, sluicev1.MessageStatus](ctx, c, sluicev1connect.MessageServiceAwaitProcedure,
			&sluicev1.AwaitRequest{Application: id.Application, Instance: id.Key, Id: messageID, Timeout: durationpb.New(awaitSlice)},
			how{timeout: awaitSlice + c.cfg.CallTimeout})
		if errors.Is(err, ErrOutcomeUnknown) {
			return last, endUnknown(err, messageID, "no answer while waiting for the end of message "+messageID)
		}
		if err != nil {
			return last, err
		}
		last = messageStatusOf(res)
		if last.Status != StatusSettled {
			continue
		}
		if last.Settlement != SettlementCompleted {
			return last, &SettledError{Status: last}
		}
		return last, nil
	}
}
