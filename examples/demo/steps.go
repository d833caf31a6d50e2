package main

import (
	"context"
	"fmt"
	"strings"

	"sluice/client"
)

func (s *story) id(order string) client.InstanceID {
	return client.InstanceID{Application: application, Key: order}
}

// send sends one message, its type being its id, and tells what the receipt says.
func (s *story) send(ctx context.Context, order, kind string) error {
	s.Say("send %s to order %s", kind, order)
	r, err := s.Client.Send(ctx, client.Message{Application: application, Instance: order, ID: kind, Type: kind, Data: []byte(order)})
	if err != nil {
		return fmt.Errorf("send %s to %s: %w", kind, order, err)
	}
	s.Say("  receipt: seq %d, %s, mode %s", r.Seq, strings.ToUpper(string(r.Disposition)), r.Mode)
	return nil
}

// show prints an instance as it stands.
func (s *story) show(ctx context.Context, order string) error {
	i, err := s.Client.Instances().Get(ctx, s.id(order))
	if err != nil {
		return err
	}
	s.Say("order %s: mode %s, epoch %d, %d deferred, cause: %s", order, i.Mode, i.Epoch, i.DeferredMessages, i.Cause)
	return nil
}

// wait looks at an instance until it is in a mode, and tells every change on the way.
func (s *story) wait(ctx context.Context, order string, mode client.Mode) error {
	var last client.Instance
	_, err := s.Client.Instances().WaitUntil(ctx, s.id(order), func(i client.Instance) bool {
		if i.Mode != last.Mode || i.DeferredMessages != last.DeferredMessages {
			s.Say("order %s: mode %s, %d deferred%s", order, i.Mode, i.DeferredMessages, because(i))
		}
		last = i
		return i.Mode == mode
	})
	return err
}

func because(i client.Instance) string {
	if i.Mode != client.ModeRecovery {
		return ""
	}
	return ", cause: " + i.Cause
}
