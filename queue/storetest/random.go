package storetest

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"sluice/queue"
)

// seed repeats a random run that failed: go test ./queue -run 'Conformance.*/Random' -store.seed N.
var seed = flag.Uint64("store.seed", 0, "seed of the random store tests; 0: a new one each time")

// steps is how many actions a random run takes.
var steps = flag.Int("store.steps", 6000, "actions in a random store test")

// cell is a key's value in the model, and how often it was set since it was absent.
type cell struct {
	value string
	sets  int
}

// model is a store that cannot be wrong, since it is a map.
type model map[string]cell

func (m model) set(key, value string) { m[key] = cell{value: value, sets: m[key].sets + 1} }

func (m model) removeRange(lower, upper string) {
	maps.DeleteFunc(m, func(key string, _ cell) bool { return key >= lower && key < upper })
}

// keys gives the keys within bounds ("" is open), in order.
func (m model) keys(lower, upper string) []string {
	var found []string
	for key := range m {
		if key >= lower && (upper == "" || key < upper) {
			found = append(found, key)
		}
	}
	slices.Sort(found)
	return found
}

func (m model) equal(other model) bool {
	return maps.EqualFunc(m, other, func(a, b cell) bool { return a.value == b.value })
}

// contents reads all of a store.
func contents(t *testing.T, r queue.Reader) model {
	t.Helper()
	it, err := r.NewIter(nil, nil)
	must(t, err)
	all := model{}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		must(t, err)
		all[string(it.Key())] = cell{value: string(value)}
	}
	must(t, it.Error())
	must(t, it.Close())
	return all
}

// crashLeavesAPrefix commits batches that each write their number to many keys, flushes in the middle, crashes, and finds
// one and the same number everywhere, no lower than at the flush.
func crashLeavesAPrefix(t *testing.T, f Fixture) {
	const batches, keys = 200, 50
	for n := 1; n <= batches; n++ {
		b := f.Store.NewBatch()
		for k := range keys {
			must(t, b.Set(fmt.Appendf(nil, "key-%03d", k), fmt.Appendf(nil, "%06d%0200d", n, k)))
		}
		must(t, b.Set(fmt.Appendf(nil, "only-%06d", n), []byte("once")))
		if n > 1 {
			must(t, b.SingleDelete(fmt.Appendf(nil, "only-%06d", n-1)))
		}
		must(t, b.Commit())
		if n == batches/2 {
			must(t, f.Store.Flush())
		}
		if n%40 == 0 {
			checkPrefix(t, f.Crash(), n, keys, n >= batches/2)
		}
	}
}

func checkPrefix(t *testing.T, after queue.Store, committed, keys int, flushed bool) {
	t.Helper()
	all := contents(t, after)
	must(t, after.Close())
	if len(all) == 0 && !flushed {
		return
	}
	var n int
	if _, err := fmt.Sscanf(all["key-000"].value[:6], "%d", &n); err != nil {
		t.Fatal(err)
	}
	if n > committed || flushed && n < 100 {
		t.Fatalf("after a crash the store holds batch %d; %d were committed", n, committed)
	}
	if len(all) != keys+1 || all[fmt.Sprintf("only-%06d", n)].value != "once" {
		t.Fatalf("after a crash the store holds %d keys at batch %d, among them those of another batch", len(all), n)
	}
	for k := range keys {
		key, want := fmt.Sprintf("key-%03d", k), fmt.Sprintf("%06d%0200d", n, k)
		if all[key].value != want {
			t.Fatalf("after a crash %s is of another batch than %d: %.6s", key, n, all[key].value)
		}
	}
}

// randomRun is a store and a model that are led through the same actions.
type randomRun struct {
	t *testing.T
	f Fixture
	r *rand.Rand

	now     model // what is committed
	batch   queue.Batch
	inBatch model   // what the batch sees; nil while there is none
	durable []model // the states since the last flush, the oldest first; a crash leaves one of them

	snapshot   queue.Snapshot
	inSnapshot model
	commits    int
}

func random(t *testing.T, f Fixture) {
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("seed %d", n)
	run := &randomRun{t: t, f: f, r: rand.New(rand.NewPCG(n, n)), now: model{}, durable: []model{{}}}
	for range *steps {
		run.step()
	}
	run.end()
}

func (run *randomRun) key() string { return fmt.Sprintf("k%02d", run.r.IntN(40)) }

func (run *randomRun) step() {
	switch n := run.r.IntN(1000); {
	case n < 450:
		run.write()
	case n < 650:
		run.read()
	case n < 850:
		run.iterate()
	case n < 900:
		run.commit()
	case n < 910:
		run.abandon()
	case n < 930:
		run.takeSnapshot()
	case n < 940:
		must(run.t, run.f.Store.Flush())
		run.durable = []model{maps.Clone(run.now)}
	case n < 945:
		run.crash()
	case n < 947:
		run.checkpoint()
	}
}

func (run *randomRun) begin() {
	if run.inBatch == nil {
		run.batch, run.inBatch = run.f.Store.NewBatch(), maps.Clone(run.now)
	}
}

func (run *randomRun) write() {
	run.begin()
	key := run.key()
	switch n := run.r.IntN(100); {
	case n < 60:
		value := fmt.Sprintf("%d-%0*d", run.r.IntN(1e6), run.r.IntN(200)+1, 0)
		must(run.t, run.batch.Set([]byte(key), []byte(value)))
		run.inBatch.set(key, value)
	case n < 75:
		must(run.t, run.batch.Delete([]byte(key)))
		delete(run.inBatch, key)
	case n < 95:
		if run.inBatch[key].sets <= 1 {
			must(run.t, run.batch.SingleDelete([]byte(key)))
			delete(run.inBatch, key)
		}
	default:
		upper := run.key()
		must(run.t, run.batch.DeleteRange([]byte(key), []byte(upper)))
		run.inBatch.removeRange(key, upper)
	}
}

// reader gives something to read and what it must hold.
func (run *randomRun) reader() (queue.Reader, model) {
	switch n := run.r.IntN(4); {
	case n == 0 && run.inSnapshot != nil:
		return run.snapshot, run.inSnapshot
	case n == 1 || run.inBatch == nil:
		return run.f.Store, run.now
	}
	return run.batch, run.inBatch
}

func (run *randomRun) read() {
	from, want := run.reader()
	key := run.key()
	got, err := from.Get([]byte(key))
	if c, ok := want[key]; ok {
		if err != nil || string(got) != c.value {
			run.t.Fatalf("Get(%s) of %T = %q, %v; want %q", key, from, got, err, c.value)
		}
	} else if !errors.Is(err, queue.ErrNotFound) {
		run.t.Fatalf("Get(%s) of %T = %q, %v; want ErrNotFound", key, from, got, err)
	}
}

// iterate makes random moves and compares each with the model's sorted keys.
func (run *randomRun) iterate() {
	from, want := run.reader()
	var lower, upper string
	if run.r.IntN(2) == 0 {
		lower = run.key()
	}
	if run.r.IntN(2) == 0 {
		upper = run.key()
	}
	if upper != "" && lower > upper {
		lower, upper = upper, lower
	}
	keys := want.keys(lower, upper)
	it, err := from.NewIter(bound(lower), bound(upper))
	must(run.t, err)
	at := -1
	ok, did := it.First(), "First"
	if len(keys) > 0 {
		at = 0
	}
	for range run.r.IntN(12) {
		run.compare(it, want, keys, at, ok, fmt.Sprintf("%s of %T within [%q, %q)", did, from, lower, upper))
		at, ok, did = run.move(it, keys, at)
	}
	must(run.t, it.Close())
}

func (run *randomRun) compare(it queue.Iterator, want model, keys []string, at int, ok bool, did string) {
	must(run.t, it.Error())
	if here := at >= 0 && at < len(keys); here != ok {
		run.t.Fatalf("%s = %v; want %v, keys %q at %d", did, ok, here, keys, at)
	}
	if !ok {
		return
	}
	value, err := it.Value()
	if string(it.Key()) != keys[at] || err != nil || string(value) != want[keys[at]].value {
		run.t.Fatalf("%s: on %q = %q, %v; want %q = %q", did, it.Key(), value, err, keys[at], want[keys[at]].value)
	}
}

// move makes one move; at becomes the place in keys, -1 before the first, len(keys) beyond the last.
func (run *randomRun) move(it queue.Iterator, keys []string, at int) (int, bool, string) {
	key := run.key()
	place, _ := slices.BinarySearch(keys, key)
	switch run.r.IntN(8) {
	case 0:
		return 0, it.First(), "First"
	case 1:
		return len(keys) - 1, it.Last(), "Last"
	case 2:
		return place, it.SeekGE([]byte(key)), "SeekGE " + key
	case 3:
		return place - 1, it.SeekLT([]byte(key)), "SeekLT " + key
	case 4, 5:
		return min(at+1, len(keys)), it.Next(), "Next"
	}
	return max(at-1, -1), it.Prev(), "Prev"
}

func (run *randomRun) commit() {
	run.begin()
	run.commits++
	run.inBatch.set("commits", fmt.Sprint(run.commits))
	must(run.t, run.batch.Set([]byte("commits"), fmt.Append(nil, run.commits)))
	must(run.t, run.batch.Commit())
	run.now, run.inBatch = run.inBatch, nil
	run.durable = append(run.durable, maps.Clone(run.now))
}

func (run *randomRun) abandon() {
	if run.inBatch != nil {
		must(run.t, run.batch.Close())
		run.inBatch = nil
	}
}

func (run *randomRun) takeSnapshot() {
	if run.inSnapshot != nil {
		must(run.t, run.snapshot.Close())
	}
	run.snapshot, run.inSnapshot = run.f.Store.NewSnapshot(), maps.Clone(run.now)
}

func (run *randomRun) crash() {
	after := run.f.Crash()
	left := contents(run.t, after)
	must(run.t, after.Close())
	if !slices.ContainsFunc(run.durable, left.equal) {
		run.t.Fatalf("a crash left what is no prefix of the %d batches since the last flush", len(run.durable)-1)
	}
}

func (run *randomRun) checkpoint() {
	dir := run.f.Dir()
	must(run.t, run.f.Store.Checkpoint(dir))
	run.durable = []model{maps.Clone(run.now)}
	s := run.f.Checkpointed(dir)
	if left := contents(run.t, s); !left.equal(run.now) {
		run.t.Fatalf("a checkpoint holds %v, want %v", left, run.now)
	}
	must(run.t, s.Close())
}

func (run *randomRun) end() {
	run.abandon()
	if left := contents(run.t, run.f.Store); !left.equal(run.now) {
		run.t.Fatalf("at the end the store holds %v, want %v", left, run.now)
	}
	if run.inSnapshot != nil {
		must(run.t, run.snapshot.Close())
	}
}
