package workload

import (
	"context"
	"testing"
	"time"

	"sluice/client"
	"sluice/jepsen/world"
)

// lateRoom is a room in which a call that was broken off comes to its end while Drain waits for the first time.
type lateRoom struct {
	*room
	late func()
}

func (r *lateRoom) Wait(ctx context.Context, d time.Duration) error {
	if late := r.late; late != nil {
		r.late = nil
		late()
	}
	return r.room.Wait(ctx, d)
}

func TestDrainWaitsForWhatComesAfterAFirstLook(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := &lateRoom{room: newRoom(t)}
	if err := Declare(ctx, r); err != nil {
		t.Fatal(err)
	}
	a := Applications()[0]
	if err := r.StartWorker(ctx, world.Worker{Name: "worker", Application: a.Name, TTL: 3 * time.Second, Capacity: 8, Outside: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	c, err := r.Client(ctx, "late")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	id := client.InstanceID{Application: a.Name, Key: "late"}
	r.late = func() {
		if _, err := c.Send(ctx, client.Message{Application: id.Application, Instance: id.Key, ID: "late", Type: TypeWork, Data: []byte("{}")}); err != nil {
			t.Error(err)
		}
	}
	if left, err := Drain(ctx, r); err != nil || len(left) > 0 {
		t.Fatalf("what is left: %v, %v", left, err)
	}
	if s, err := c.Get(ctx, id, "late"); err != nil || s.Status != client.StatusSettled {
		t.Errorf("Drain was content, and the late message is %+v, %v", s, err)
	}
	if err := r.StopWorkers(ctx); err != nil {
		t.Fatal(err)
	}
}
