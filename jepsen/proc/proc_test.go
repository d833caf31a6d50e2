//go:build linux

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"sluice/client"
	"sluice/internal/audit"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// bare is a world without nodes.
func bare(t *testing.T) (*World, *bytes.Buffer) {
	t.Helper()
	w := &World{cfg: Config{Dir: t.TempDir(), Tell: t.Logf}, start: time.Now(), missing: map[world.Kind]string{}, workers: map[string]*worker{}, gone: map[string]bool{}}
	w.closing, w.close = context.WithCancel(context.Background())
	t.Cleanup(w.close)
	out := &bytes.Buffer{}
	w.log = history.NewLog(out, w.Now)
	for _, dir := range []string{"audit", "workers", "log"} {
		if err := os.Mkdir(filepath.Join(w.cfg.Dir, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	return w, out
}

func TestNotesOfNodesAndWorkersComeIntoTheHistory(t *testing.T) {
	t.Parallel()
	w, out := bare(t)
	f, err := audit.Open(filepath.Join(w.cfg.Dir, "audit", "n1-2.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Append(audit.Entry(7, 2, 9, []byte("entry"), nil), audit.Restore(20)), f.Close()); err != nil {
		t.Fatal(err)
	}
	piece := []byte(`{"at":5,"worker":{"worker":"w1","deed":"deliver","seq":3}}` + "\n" + `{"at":6,"worker":{"wor`)
	if err := os.WriteFile(filepath.Join(w.cfg.Dir, "workers", "w1.1.jsonl"), piece, 0o600); err != nil {
		t.Fatal(err)
	}
	w.log.Mark(history.Mark{Name: history.FaultsOver})
	if w.file, err = os.Create(filepath.Join(w.cfg.Dir, "history.jsonl")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.file.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	sofar, err := w.SoFar()
	if err != nil || len(sofar.Marks) != 1 || len(sofar.Audits["n1-2"]) != 2 || len(sofar.Worker) != 0 {
		t.Errorf("so far there is %+v (%v)", sofar, err)
	}
	if err := w.collect(); err != nil {
		t.Fatal(err)
	}
	h, err := history.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	rows := h.Audits["n1-2"]
	if len(rows) != 2 || rows[0].Value.Index != 7 || string(rows[0].Value.Entry) != "entry" || !rows[1].Value.Snapshot || rows[0].At <= 0 || rows[0].At > time.Minute {
		t.Errorf("the audit came as %+v", rows)
	}
	if len(h.Worker) != 1 || h.Worker[0].Value.Seq != 3 {
		t.Errorf("the worker's notes came as %+v", h.Worker)
	}
}

func TestAWorkerIsAProcessThatIsKilledAndComesBack(t *testing.T) {
	t.Parallel()
	w, out := bare(t)
	// The test's own program stands for a worker's: see TestMain.
	w.cfg.Worker = []string{os.Args[0], "-worker"}
	w.nodes = []*node{{w: w, place: "n1", address: "127.0.0.1:1"}}
	ctx := context.Background()
	if err := w.StartWorker(ctx, world.Worker{Name: "w1", Outside: w.cfg.Dir}); err != nil {
		t.Fatal(err)
	}
	await := func(runs int) {
		t.Helper()
		name := filepath.Join(w.cfg.Dir, fmt.Sprintf("started-%d", runs))
		for limit := time.Now().Add(20 * time.Second); ; {
			if _, err := os.Stat(name); err == nil {
				return
			}
			if time.Now().After(limit) || w.Wait(ctx, 10*time.Millisecond) != nil {
				t.Fatalf("the worker did not start for the %d. time", runs)
			}
		}
	}
	await(1)
	heal, err := w.Inject(ctx, world.Fault{Kind: world.WorkerKill, Workers: []string{"w1"}})
	if err != nil {
		t.Fatal(err)
	}
	if w.workers["w1"].process.alive() {
		t.Error("the worker lives though it was killed")
	}
	if err := heal(ctx); err != nil {
		t.Fatal(err)
	}
	await(2)
	if err := errors.Join(w.StopWorkers(ctx), w.collect()); err != nil {
		t.Fatal(err)
	}
	h, err := history.Read(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Worker) != 3 { // the first began; the second began and ended
		t.Errorf("the workers noted %+v", h.Worker)
	}
	if _, err := w.Inject(ctx, world.Fault{Kind: world.WorkerKill, Workers: []string{"w9"}}); err == nil {
		t.Error("a worker that is not there was killed")
	}
}

// asWorker is what the test's program does in place of a worker.
func asWorker(ctx context.Context, _ *client.Client, k world.Worker, h *history.Log) error {
	h.Worker(history.WorkerEvent{Worker: k.Name, Deed: history.SessionOpened})
	started, err := filepath.Glob(filepath.Join(k.Outside, "started-*"))
	if err == nil {
		err = os.WriteFile(filepath.Join(k.Outside, fmt.Sprintf("started-%d", len(started)+1)), nil, 0o600)
	}
	<-ctx.Done()
	h.Worker(history.WorkerEvent{Worker: k.Name, Deed: history.SessionClosed})
	return err
}

func TestWhatTheMachineCannotDoIsSaid(t *testing.T) {
	t.Parallel()
	w, _ := bare(t)
	w.cfg.Plain = true
	w.connect(context.Background(), []string{"n1"})
	if err := w.settle(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	w.survey()
	for _, kind := range []world.Kind{world.Partition, world.Loss, world.Delay, world.PowerLoss, world.DiskFull, world.ClockSkew} {
		var missing *world.Missing
		if _, err := w.Inject(context.Background(), world.Fault{Kind: kind}); !errors.As(err, &missing) || missing.Why == "" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := w.Has(world.Kill); err != nil {
		t.Error(err)
	}
	if _, err := w.Inject(context.Background(), world.Fault{Kind: world.Kill, Nodes: []string{"n9"}}); err == nil {
		t.Error("a node that is not there was killed")
	}
}

func TestEveryKindHasAnInjectorOrAReason(t *testing.T) {
	t.Parallel()
	w, _ := bare(t)
	w.survey()
	for _, kind := range world.Kinds() {
		if _, ok := w.injectors()[kind]; !ok && w.Has(kind) == nil {
			t.Errorf("%s is neither injected nor missing", kind)
		}
	}
}

func TestWhoLeavesTheClusterWithoutBeingRemovedIsTold(t *testing.T) {
	t.Parallel()
	w, _ := bare(t)
	w.removed("n2")
	if got := w.expelled([]string{"n1", "n2", "n3"}, []string{"n1", "n4"}); !slices.Equal(got, []string{"n3"}) {
		t.Errorf("%v", got)
	}
}

func TestSomeFileIsOneThatHoldsSomething(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, _, err := someFile(dir, rand.New(rand.NewPCG(1, 1))); err == nil {
		t.Error("an empty folder has a file")
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600), os.WriteFile(filepath.Join(dir, "data"), []byte("12345"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(10) {
		if name, size, err := someFile(dir, rand.New(rand.NewPCG(seed, 1))); err != nil || filepath.Base(name) != "data" || size != 5 {
			t.Fatalf("%q %d %v", name, size, err)
		}
	}
}

func TestADetourHoldsAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	w, _ := bare(t)
	const span = 20 * time.Millisecond
	from, sender := net.Pipe()
	receiver, to := net.Pipe()
	go w.pump(to, from, delayed(span)(rand.New(rand.NewPCG(1, 1))))
	began := time.Now()
	go func() {
		for n := range 50 {
			_, _ = fmt.Fprintf(sender, "%02d ", n) // the receiver sees what is missing
		}
		_ = sender.Close()
	}()
	got, err := io.ReadAll(receiver)
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for n := range 50 {
		want += fmt.Sprintf("%02d ", n)
	}
	if string(got) != want {
		t.Errorf("what arrived is %q", got)
	}
	if took := time.Since(began); took < span/2 {
		t.Errorf("it was held for %v", took)
	}
}

func TestTheGreatestLossHolds(t *testing.T) {
	t.Parallel()
	all := withOrWithout(withOrWithout(withOrWithout(nil, 5, true), 20, true), 20, true)
	if greatest(all) != 20 {
		t.Error(all)
	}
	if all = withOrWithout(withOrWithout(all, 20, false), 20, false); greatest(all) != 5 {
		t.Error(all)
	}
	if all = withOrWithout(all, 5, false); greatest(all) != 0 {
		t.Error(all)
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "-worker" {
		ctx, stop := notified()
		defer stop()
		if err := RunWorker(ctx, os.Args[2], asWorker); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// notified is a context that ends when the process is told to.
func notified() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}
