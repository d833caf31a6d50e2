package workload

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"sluice/client"
	"sluice/jepsen/history"
)

// caller asks in the name of one client, and notes what it asked and was answered.
type caller struct {
	name   string
	client *client.Client
	log    *history.Log
	count  *atomic.Uint64
}

func newCaller(name string, c *client.Client, h *history.Log) *caller {
	return &caller{name: name, client: c, log: h, count: &atomic.Uint64{}}
}

// ask notes the call, carries it out and notes what came of it. It returns the error of the SDK.
func (c *caller) ask(what history.What, args history.Args, call func() (history.Answer, error)) (history.Answer, error) {
	id := c.name + "-" + strconv.FormatUint(c.count.Add(1), 10)
	c.log.Call(history.Call{ID: id, Client: c.name, What: what, Args: args})
	answer, err := call()
	result := resultOf(err)
	if err != nil {
		answer.Error = err.Error()
		var e *client.Error
		if errors.As(err, &e) {
			answer.Reason = string(e.Reason)
		}
	}
	c.log.Return(history.Return{ID: id, Result: result, Answer: answer})
	return answer, err
}

// resultOf tells a refusal, which has no effect, from what may have been done, or may be done yet.
func resultOf(err error) history.Result {
	var e *client.Error
	var settled *client.SettledError
	switch {
	case err == nil, errors.As(err, &settled):
		return history.OK
	case errors.As(err, &e) && !e.Uncertain && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded):
		return history.Fail
	}
	return history.Unknown
}

func (c *caller) send(ctx context.Context, m client.Message) (history.Answer, error) {
	args := history.Args{Application: m.Application, Instance: m.Instance, MessageID: m.ID, Type: m.Type, Data: string(m.Data)}
	return c.ask(history.Send, args, func() (history.Answer, error) {
		r, err := c.client.Send(ctx, m)
		return history.Answer{
			Seq: uint64(r.Seq), Disposition: string(r.Disposition), Mode: string(r.Mode), Epoch: uint64(r.Epoch),
			Ahead: r.Ahead, Duplicate: r.Duplicate, Index: r.Index,
		}, err
	})
}

func (c *caller) await(ctx context.Context, id client.InstanceID, message string) (history.Answer, error) {
	args := history.Args{Application: id.Application, Instance: id.Key, MessageID: message}
	return c.ask(history.Await, args, func() (history.Answer, error) {
		s, err := c.client.Await(ctx, id, message)
		return statusAnswer(s), err
	})
}

func statusAnswer(s client.MessageStatus) history.Answer {
	return history.Answer{
		Seq: uint64(s.Seq), Lane: string(s.Lane), Status: string(s.Status), Settlement: string(s.Settlement), Disposition: string(s.Disposition),
		Duplicate: s.Duplicate, HasReply: s.HasReply, Reply: string(s.Reply),
	}
}

func (c *caller) getInstance(ctx context.Context, id client.InstanceID) (history.Answer, error) {
	return c.ask(history.GetInstance, history.Args{Application: id.Application, Instance: id.Key}, func() (history.Answer, error) {
		i, err := c.client.Instances().Get(ctx, id)
		return instanceAnswer(i), err
	})
}

func instanceAnswer(i client.Instance) history.Answer {
	return history.Answer{
		Mode: string(i.Mode), Epoch: uint64(i.Epoch), Duplicate: i.Duplicate, Deferred: i.DeferredMessages,
		NextSeq: uint64(i.NextSeq), Owner: i.Owner, Quiesced: i.Quiesced,
	}
}

func (c *caller) enterRecovery(ctx context.Context, id client.InstanceID, cause string, until time.Time, request string) (history.Answer, error) {
	args := history.Args{Application: id.Application, Instance: id.Key, Request: request, Data: cause}
	return c.ask(history.EnterRecovery, args, func() (history.Answer, error) {
		i, err := c.client.Instances().EnterRecovery(ctx, id, client.EnterRecovery{Cause: cause, Until: until, RequestID: request})
		return instanceAnswer(i), err
	})
}

func (c *caller) completeRecovery(ctx context.Context, id client.InstanceID, r client.CompleteRecovery) (history.Answer, error) {
	args := history.Args{
		Application: id.Application, Instance: id.Key, Request: r.RequestID, Epoch: uint64(r.Epoch),
		Through: uint64(r.ProcessedThrough), Discard: r.DiscardRecoveryMessages,
	}
	return c.ask(history.CompleteRecovery, args, func() (history.Answer, error) {
		i, err := c.client.Instances().CompleteRecovery(ctx, id, r)
		return instanceAnswer(i), err
	})
}

func (c *caller) resolve(ctx context.Context, id client.InstanceID, r client.ResolveMessage) (history.Answer, error) {
	args := history.Args{
		Application: id.Application, Instance: id.Key, Request: r.RequestID, Seq: uint64(r.Seq), Lane: string(r.Lane), Action: string(r.Action),
	}
	return c.ask(history.Resolve, args, func() (history.Answer, error) {
		s, err := c.client.Instances().ResolveMessage(ctx, id, r)
		return statusAnswer(s), err
	})
}

func (c *caller) enterApplication(ctx context.Context, name, cause, request string) error {
	_, err := c.ask(history.EnterApplication, history.Args{Application: name, Request: request, Data: cause}, func() (history.Answer, error) {
		a, err := c.client.Applications().EnterRecovery(ctx, name, cause, request)
		return history.Answer{Epoch: a.RecoveryGeneration, Duplicate: a.Duplicate}, err
	})
	return err
}

func (c *caller) completeApplication(ctx context.Context, name, request string) (client.Operation, error) {
	var op client.Operation
	_, err := c.ask(history.CompleteApplication, history.Args{Application: name, Request: request}, func() (history.Answer, error) {
		var err error
		op, err = c.client.Applications().CompleteRecovery(ctx, name, 0, request)
		return history.Answer{Duplicate: op.Duplicate}, err
	})
	return op, err
}

func (c *caller) apply(ctx context.Context, a client.Application) error {
	_, err := c.ask(history.Apply, history.Args{Application: a.Name}, func() (history.Answer, error) {
		_, err := c.client.Applications().Apply(ctx, a)
		return history.Answer{}, err
	})
	return err
}
