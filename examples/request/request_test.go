package main

import (
	"bytes"
	"context"
	"testing"

	"sluice/client"
	"sluice/examples/internal/stage"
)

func TestTheReplyIsThereForWhoeverAttaches(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := stage.Play(t.Context(), stage.Config{Out: &out}, func(ctx context.Context, s *stage.Stage) error {
		if err := request(ctx, s); err != nil {
			return err
		}
		// The worker is gone; the replies are the cluster's.
		for _, want := range []struct {
			id          string
			disposition client.Disposition
			seq         client.Seq
			pounds      int
		}{{"ask-1", client.DispositionAccepted, 2, 5}, {"ask-2", client.DispositionDeferred, 5, 7}, {"ask-3", client.DispositionAccepted, 7, 8}} {
			status, err := s.Client.Attach(tea, want.id).Await(ctx)
			var got stock
			if err == nil {
				err = status.DecodeReply(&got)
			}
			if err != nil || got.Pounds != want.pounds || status.Disposition != want.disposition || status.Seq != want.seq || status.Settlement != client.SettlementCompleted {
				t.Errorf("%s: %+v, %+v, %v; want %+v", want.id, got, status, err, want)
			}
		}
		p, err := s.Client.Request(ctx, question("ask-2"))
		if err != nil || !p.Deferred() || p.Receipt.Ahead != 2 || p.Receipt.Mode != client.ModeRecovery || !p.Receipt.Duplicate {
			t.Errorf("%+v, %v", p, err)
		}
		return nil
	})
	if err != nil || t.Failed() {
		t.Errorf("%v\n%s", err, out.String())
	}
}
