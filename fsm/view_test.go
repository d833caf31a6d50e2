package fsm_test

import (
	"testing"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

// hooked is a store that calls a hook once: after the next snapshot was taken, or after the next commit.
type hooked struct {
	*queue.MemoryStore
	snapshotTaken, committed func()
}

func once(hook *func()) {
	if f := *hook; f != nil {
		*hook = nil
		f()
	}
}

func (h *hooked) NewSnapshot() queue.Snapshot {
	defer once(&h.snapshotTaken)
	return h.MemoryStore.NewSnapshot()
}

func (h *hooked) NewBatch() queue.Batch { return &hookedBatch{h.MemoryStore.NewBatch(), h} }

type hookedBatch struct {
	queue.Batch
	store *hooked
}

func (b *hookedBatch) Commit() error {
	defer once(&b.store.committed)
	return b.Batch.Commit()
}

// hook has the machine go on with a store that can be hooked.
func (r *rig) hook() *hooked {
	r.t.Helper()
	h := &hooked{MemoryStore: r.store}
	m, err := fsm.Open(h, fsm.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.m = m
	return h
}

// TestAReadIsOfOneMomentThoughACommitFollows: what is read was taken before a message was settled and the application
// entered recovery. It must not show the one without the other, with the settled message in doubt.
func TestAReadIsOfOneMomentThoughACommitFollows(t *testing.T) {
	t.Parallel()
	r := setup(t)
	h := r.hook()
	r.send("i", "a")
	r.own("i", "s")
	d := r.head("i")
	h.snapshotTaken = func() {
		r.finish("s", d, outCompleted)
		r.enterAll("fire")
		r.declare("new")
	}
	if o := r.offer("i"); o.Mode != normal || o.Epoch != d.Epoch || len(o.Deliveries) != 1 || o.Deliveries[0].Recovery != nil {
		t.Fatalf("want the offer of before the commit, got %v", o)
	}
	r.wantMode("i", recovery)
	if d := r.announcement("i"); len(d.Recovery.InDoubt) != 0 {
		t.Fatal(d)
	}
	h.snapshotTaken = func() { r.declare("newer") }
	_, err := r.m.View().Application("newer")
	wantReason(t, err, "UNKNOWN_APPLICATION")
	r.application("newer")
}

// TestAReadIsOfOneMomentThoughACommitWasNotShownYet: the store holds a commit already of which the readers' own memory
// does not know.
func TestAReadIsOfOneMomentThoughACommitWasNotShownYet(t *testing.T) {
	t.Parallel()
	r := setup(t)
	h := r.hook()
	r.send("i", "a")
	r.send("j", "a")
	h.committed = func() {
		r.wantMode("i", recovery)
		r.wantMode("j", recovery)
		r.wantCounts(0, 2, 0)
	}
	if outs, err := r.apply(enterAllRequest(&sluicev1.EnterApplicationRecoveryRequest{Cause: "fire"}), sendCommand(message("j", "b", "step"))); err != nil || outs[0].Fault != nil {
		t.Fatal(outs, err)
	}
	if h.committed != nil {
		t.Fatal("nothing was committed")
	}
	h.committed = func() { r.application("new") }
	r.declare("new")
}
