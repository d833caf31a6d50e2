package stage_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"sluice/client"
	"sluice/examples/internal/stage"
)

var roles = stage.Roles{
	"mute": func(context.Context, *stage.Role) error { return nil },
	"hosts": func(ctx context.Context, r *stage.Role) error {
		return r.Work(ctx, client.WorkerConfig{Application: "app", Handler: func(_ context.Context, d *client.Delivery) error {
			r.Cue("handled", "%s of %s", d.Message.Data, r.Args[0])
			return nil
		}})
	},
}

func TestMain(m *testing.M) {
	roles.Play()
	os.Exit(m.Run())
}

func TestProcessesPlayTheirRoles(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := stage.Play(t.Context(), stage.Config{Out: &out}, func(ctx context.Context, s *stage.Stage) error {
		if _, err := s.Client.Applications().Apply(ctx, client.Application{Name: "app"}); err != nil {
			return err
		}
		p, err := s.Start(ctx, "somebody", "hosts", "an argument")
		if err != nil {
			return err
		}
		defer p.Kill()
		if _, err := s.Client.Send(ctx, client.Message{Application: "app", Instance: "i", Type: "t", Data: []byte("data")}); err != nil {
			return err
		}
		if err := p.Until(ctx, "handled"); err != nil {
			return err
		}
		if err := p.Stop(ctx); err != nil {
			return err
		}
		if err := p.Until(ctx, "never"); err == nil {
			t.Error("the process is gone, and is waited for")
		}
		return nil
	})
	if err != nil || !strings.Contains(out.String(), "somebody: data of an argument\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestWhatGoesWrongOnStageIsTold(t *testing.T) {
	t.Parallel()
	fell := errors.New("the curtain fell")
	err := stage.Play(t.Context(), stage.Config{Out: &bytes.Buffer{}}, stage.Chapters(func(ctx context.Context, s *stage.Stage) error {
		if _, err := s.Start(ctx, "somebody", "mute"); err == nil || !strings.Contains(err.Error(), `"ready"`) {
			t.Errorf("a role that ends at once: %v", err)
		}
		return fell
	}, func(context.Context, *stage.Stage) error {
		t.Error("the story went on")
		return nil
	}))
	if !errors.Is(err, fell) {
		t.Error(err)
	}
	if err := stage.Play(t.Context(), stage.Config{Out: &bytes.Buffer{}, Node: stage.Binary("false")}, stage.Chapters()); err == nil {
		t.Error("a node that ends at once is none")
	}
}
