package client

import (
	"context"
	"errors"
	"fmt"
)

// Pending is a request whose reply is awaited. It holds nothing at the cluster and need not be closed. It is safe for
// use by many goroutines.
type Pending struct {
	// Instance and MessageID name the request: with them anyone can Attach to it.
	Instance  InstanceID
	MessageID string
	// Receipt says what the gate decided; the zero value after Attach.
	Receipt Receipt

	client *Client
}

// Request sends a message whose reply will be awaited (Message.AwaitReply is set), and returns as soon as there is a
// receipt: Deferred tells at once that the instance is held, and Receipt.Ahead behind how many. Errors are those of
// Send. The same request with the same id is sent once, and both callers get its reply.
func (c *Client) Request(ctx context.Context, m Message) (*Pending, error) {
	m.AwaitReply = true
	receipt, err := c.Send(ctx, m)
	if err != nil {
		return nil, err
	}
	return &Pending{Instance: m.InstanceID(), MessageID: receipt.MessageID, Receipt: receipt, client: c}, nil
}

// Attach is for a request that was sent before, perhaps by another process. It calls nobody; Await tells whether the
// message is known.
func (c *Client) Attach(id InstanceID, messageID string) *Pending {
	return &Pending{Instance: id, MessageID: messageID, client: c}
}

// Ask is Request and Await in one. If the message is deferred, onDeferred is called before the wait begins; nil:
// nobody is told. It is called, too, where the message was deferred when it was first sent and may have been settled
// since (Receipt.Duplicate). The *Pending lets a caller whose ctx ended attach later; it is nil if there is no receipt.
// Errors without a receipt are those of Send: ErrOutcomeUnknown alone leaves open whether the message was accepted.
// With one they are those of Pending.Await: never ErrOutcomeUnknown.
func (c *Client) Ask(ctx context.Context, m Message, onDeferred func(*Pending)) (MessageStatus, *Pending, error) {
	p, err := c.Request(ctx, m)
	if err != nil {
		return MessageStatus{}, nil, err
	}
	if p.Deferred() && onDeferred != nil {
		onDeferred(p)
	}
	status, err := p.Await(ctx)
	return status, p, err
}

// accepted says what is known of the message, whatever went wrong after its receipt.
func (p *Pending) accepted() string {
	return fmt.Sprintf("message %s was accepted (seq %d, %s), but how it ended is not known", p.MessageID, p.Receipt.Seq, p.Receipt.Disposition)
}

// Deferred says that the message was held when it was judged, which was when it was first sent: it is handled once its
// instance has recovered, after the Receipt.Ahead messages before it.
func (p *Pending) Deferred() bool { return p.Receipt.Disposition == DispositionDeferred }

// Status tells where the message stands now, without waiting.
func (p *Pending) Status(ctx context.Context) (MessageStatus, error) {
	return p.client.Get(ctx, p.Instance, p.MessageID)
}

// Await waits for the reply for as long as ctx lasts, through changes of leader and times without one. The status has
// the reply (HasReply tells an empty one from none); it can be awaited again within the deduplication window. A
// message that ended otherwise than completed is a *SettledError (ErrSkipped, ErrDeadLettered, ErrExpired). When ctx
// ends first, the error wraps ctx's, and the message stays where it is. ErrUnknownMessage: it was never accepted, or
// the window is over. After Request and Ask every error but a *SettledError is ErrEndUnknown, too, and says that the
// message was accepted; it is never ErrOutcomeUnknown, which is of sending.
func (p *Pending) Await(ctx context.Context) (MessageStatus, error) {
	status, err := p.await(ctx)
	if p.Receipt.Seq == 0 { // attached
		return status, err
	}
	return status, endUnknown(err, p.MessageID, p.accepted())
}

func (p *Pending) await(ctx context.Context) (MessageStatus, error) {
	for {
		status, err := p.client.Await(ctx, p.Instance, p.MessageID)
		if err == nil || ctx.Err() != nil {
			return status, err
		}
		var e *Error
		if !errors.As(err, &e) || !e.Temporary() {
			return status, err
		}
		sleep(ctx, p.client.closed, jitter(p.client.cfg.Retry.Max))
	}
}
