package workload

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sluice/client"
	"sluice/internal/xes"
	"sluice/jepsen/world"
)

// Replay sends the events of a real log: a case's events to one instance of accounts, one after the other, each until
// it is accepted. It ends with the log, or when ctx does. The name is the client's and the beginning of the messages'
// ids.
func Replay(ctx context.Context, w world.World, name string, log io.Reader, l Load) error {
	c, err := w.Client(ctx, name)
	if err != nil {
		return err
	}
	defer c.Close()
	l = l.Defaults()
	ask, cases := newCaller(name, c, w.History()), 0
	_, err = xes.Read(log, xes.Limits{}, func(one *xes.Case) error {
		cases++
		return replayCase(ctx, w, ask, one, Instance(cases%l.Instances), l)
	})
	if err != nil && !errors.Is(err, xes.ErrStop) {
		return fmt.Errorf("workload: replay: %w", err)
	}
	return nil
}

func replayCase(ctx context.Context, w world.World, ask *caller, one *xes.Case, instance string, l Load) error {
	for n, e := range one.Events {
		m := client.Message{
			Application: Applications()[0].Name, Instance: instance, ID: fmt.Sprintf("%s-%s-%d", ask.name, one.Name, n+1), Type: TypeWork,
			Source: e.Name, Data: e.Attributes.AppendJSON(nil),
		}
		for {
			_, err := ask.send(ctx, m)
			if w.Wait(ctx, l.Pause) != nil {
				return xes.ErrStop
			}
			if err == nil {
				break
			}
		}
	}
	return nil
}
