package client_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"sluice/client"
	"sluice/client/sluicetest"
)

type sum struct {
	A, B int
}

func TestRealJSONThereAndBack(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	copies := make(chan client.Message, 10)
	host(t, c, client.WorkerConfig{Handler: func(_ context.Context, d *client.Delivery) error {
		var s sum
		if err := d.Message.DecodeJSON(&s); err != nil {
			return client.Reject(err)
		}
		if d.Instance.Key == "other" {
			copies <- d.Message
			return nil
		}
		if err := d.SendJSON(client.Message{Application: "app", Instance: "other", Type: "t"}, sum{A: s.B, B: s.A}); err != nil {
			return err
		}
		return d.ReplyJSON(map[string]int{"sum": s.A + s.B, "a": s.A})
	}})
	m, err := client.Message{Application: "app", Instance: "i", ID: "m", Type: "t"}.WithJSON(sum{A: 1, B: 2})
	if err != nil || m.ContentType != "application/json" || string(m.Data) != `{"A":1,"B":2}` {
		t.Fatalf("%+v, %v", m, err)
	}
	status, _, err := c.Ask(t.Context(), m, nil)
	var got map[string]int
	if err == nil {
		err = status.DecodeReply(&got)
	}
	if err != nil || got["sum"] != 3 || got["a"] != 1 || status.ReplyContentType != "application/json" {
		t.Errorf("%v, %+v, %v", got, status, err)
	}
	if copied := receive(t, copies); string(copied.Data) != `{"A":2,"B":1}` || copied.ContentType != "application/json" {
		t.Errorf("%+v", copied)
	}
	if _, _, err := c.Ask(t.Context(), client.Message{Application: "app", Instance: "i", Type: "t", Data: []byte("{")}, nil); !errors.Is(err, client.ErrDeadLettered) {
		t.Errorf("what is no JSON: %v", err)
	}
}

func TestJSONThatCannotBeEncodedOrDecoded(t *testing.T) {
	t.Parallel()
	var d client.Delivery
	if err := d.SendJSON(client.Message{}, math.NaN()); err == nil {
		t.Error("NaN was sent")
	}
	if err := d.ReplyJSON(math.NaN()); err == nil {
		t.Error("NaN was replied")
	}
	var v int
	if err := (client.MessageStatus{}).DecodeReply(&v); err == nil {
		t.Error("no reply was decoded")
	}
	if err := (client.MessageStatus{HasReply: true, Reply: []byte("x")}).DecodeReply(&v); err == nil {
		t.Error("a reply that is no JSON was decoded")
	}
}
