package fsm_test

import (
	"bytes"
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// raw gives bytes as an entry to the machine.
func (r *rig) raw(data []byte) error {
	r.index++
	_, _, err := r.m.Apply([]fsm.Entry{{Index: r.index, Term: 1, Data: data}})
	return err
}

func TestEntriesThatStopANode(t *testing.T) {
	t.Parallel()
	strange := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	good := encode(t, &logv1.Entry{TimeMs: start, Commands: []*logv1.Command{sendCommand(message("i", "a", "step"))}})
	command := func(b []byte) []byte { // an entry with a good command, and this one
		return append(bytes.Clone(good), protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), b)...)
	}
	text := command(encode(t, sendCommand(message("i", "b", "what is not text"))))
	noText := bytes.Replace(text, []byte("what is not text"), []byte("what is not te\xff\xfe"), 1)
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"an unknown field":                  {append(bytes.Clone(good), strange...), fsm.ErrUnknownCommand},
		"an unknown command":                {command(protowire.AppendBytes(protowire.AppendTag(nil, 99, protowire.BytesType), nil)), fsm.ErrUnknownCommand},
		"a command of nothing":              {command(nil), fsm.ErrUnknownCommand},
		"a known command with more":         {command(append(encode(t, sendCommand()), strange...)), fsm.ErrUnknownCommand},
		"half an entry":                     {good[:len(good)-1], fsm.ErrCorruptEntry},
		"text that is not UTF-8":            {command(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "\xff")), fsm.ErrCorruptEntry},
		"a message that is not UTF-8":       {noText, fsm.ErrCorruptEntry},
		"no entry at all":                   {[]byte("nonsense"), fsm.ErrCorruptEntry},
		"a digest that is not the leader's": {encode(t, &logv1.Entry{Commands: []*logv1.Command{digestCommand(1, []byte("01234567"))}}), fsm.ErrDiverged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			before, err := contents(r.store)
			if err != nil {
				t.Fatal(err)
			}
			if err := r.raw(c.data); !errors.Is(err, c.want) {
				t.Fatalf("want %v, got %v", c.want, err)
			}
			// Nothing of it is visible, and the machine does nothing more.
			after, err := contents(r.store)
			if err != nil || !equalRecords(before, after) {
				t.Fatal("the store has changed", err)
			}
			if index, _ := r.m.View().Applied(); index != 1 {
				t.Fatal(index)
			}
			if err := r.raw(good); !errors.Is(err, fsm.ErrStopped) {
				t.Fatal(err)
			}
		})
	}
}

func equalRecords(a, b []record) bool {
	if len(a) != len(b) {
		return false
	}
	for n := range a {
		if !bytes.Equal(a[n].key, b[n].key) || !bytes.Equal(a[n].value, b[n].value) {
			return false
		}
	}
	return true
}

func digestCommand(index uint64, digest []byte) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_CheckDigest{CheckDigest: &logv1.CheckDigest{Index: index, Digest: digest}}}
}

func TestCheckDigest(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	index, digest := r.m.Digest()
	r.send("i", "b")
	if later, other := r.m.Digest(); later != index+1 || bytes.Equal(digest, other) {
		t.Fatal("the digest does not move")
	}
	r.ok(digestCommand(index, digest))
	r.ok(digestCommand(0, []byte("x")))
	r.ok(digestCommand(1<<40, []byte("x"))) // unknown here
	r.reopen()
	r.ok(digestCommand(index, []byte("x"))) // and after a restart
	index, digest = r.m.Digest()
	r.ok(digestCommand(index, digest))
	digest[0]++
	_, err := r.apply(digestCommand(index, digest))
	var diverged *fsm.DivergedError
	if !errors.As(err, &diverged) || diverged.Index != index || !bytes.Equal(diverged.Theirs, digest) || !errors.Is(err, fsm.ErrDiverged) {
		t.Fatal(err)
	}
}

func TestEntriesAreAppliedOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	data := encode(t, &logv1.Entry{TimeMs: start, Commands: []*logv1.Command{sendCommand(message("i", "a", "step"))}})
	entries := []fsm.Entry{{Index: 1, Term: 1, Data: data}, {Index: 2, Term: 3, Data: data}, {Index: 2, Term: 3, Data: data}, {Index: 3, Term: 3}}
	results, _, err := r.m.Apply(entries)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []int{0, 1, 0, 0} {
		if got := len(results[n].Outcomes); got != want {
			t.Errorf("entry %d: %d outcomes", n, got)
		}
	}
	if index, term := r.m.Applied(); index != 3 || term != 3 {
		t.Fatal(index, term)
	}
	_, digest := r.m.Digest()
	r.reopen()
	if index, term := r.m.Applied(); index != 3 || term != 3 {
		t.Fatal(index, term)
	}
	if _, same := r.m.Digest(); !bytes.Equal(digest, same) {
		t.Fatal("the digest is not that of before")
	}
	if _, _, err := r.m.Apply(entries); err != nil {
		t.Fatal(err)
	}
	if n := r.instance("i").NormalMessages; n != 1 {
		t.Fatal(n)
	}
}

// failing fails to commit.
type failing struct{ queue.Store }

type failingBatch struct{ queue.Batch }

var errDisk = errors.New("no space left on device")

func (f failing) NewBatch() queue.Batch { return failingBatch{f.Store.NewBatch()} }

func (failingBatch) Commit() error { return errDisk }

func TestAStoreThatFailsStopsTheMachine(t *testing.T) {
	t.Parallel()
	r := setup(t)
	m, err := fsm.Open(failing{r.store}, fsm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	data := encode(t, &logv1.Entry{TimeMs: start, Commands: []*logv1.Command{sendCommand(message("i", "a", "step"))}})
	if _, _, err := m.Apply([]fsm.Entry{{Index: 2, Data: data}}); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	if _, _, err := m.Apply([]fsm.Entry{{Index: 3}}); !errors.Is(err, fsm.ErrStopped) {
		t.Fatal(err)
	}
	if index, _ := m.View().Applied(); index != 1 {
		t.Fatal(index)
	}
	if _, err := m.View().Instance(fsm.InstanceID{Application: "app", Key: "i"}); err == nil {
		t.Fatal("it shows what was not committed")
	}
}

func TestStatesThatCannotBeTakenUp(t *testing.T) {
	t.Parallel()
	put := func(key string, value []byte) *queue.MemoryStore {
		s := queue.NewMemoryStore()
		b := s.NewBatch()
		if err := errors.Join(b.Set([]byte(key), value), b.Commit()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, s := range map[string]*queue.MemoryStore{
		"of another format":     put("m", encode(t, &logv1.MetaRecord{Format: 2})),
		"damaged":               put("m", []byte("x")),
		"a damaged application": put("aapp", []byte("x")),
		"a damaged session":     put("ss", []byte("x")),
	} {
		if _, err := fsm.Open(s, fsm.Options{}); err == nil {
			t.Errorf("%s: taken up", name)
		}
	}
}

// TestDamagedHeaders wants damage to be told as such, and never to be taken for an instance that is not there.
func TestDamagedHeaders(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	b := r.store.NewBatch()
	if err := errors.Join(b.Set([]byte("iapp\x00i"), []byte("x")), b.Commit()); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	if _, err := r.m.View().Instance(fsm.InstanceID{Application: "app", Key: "i"}); !errors.Is(err, queue.ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := r.m.View().Instances(&sluicev1.ListInstancesRequest{Application: "app"}); !errors.Is(err, queue.ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := r.apply(sendCommand(message("i", "b", "step"))); !errors.Is(err, queue.ErrCorrupt) {
		t.Fatal(err)
	}
	r.store = queue.NewMemoryStore() // whose soundness is looked at when the test ends
}
