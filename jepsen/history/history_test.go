package history

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// ticking is a time that goes on by one with each look.
func ticking() func() time.Duration {
	var now time.Duration
	return func() time.Duration { now++; return now }
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLog(&out, ticking())
	l.Call(Call{ID: "c1-1", Client: "c1", What: Send, Args: Args{Application: "a", Instance: "i", MessageID: "m1"}})
	l.Call(Call{ID: "c2-1", Client: "c2", What: Send, Args: Args{Application: "a", Instance: "i", MessageID: "m2"}})
	l.Return(Return{ID: "c1-1", Result: OK, Answer: Answer{Seq: 1, Index: 7}})
	l.Worker(WorkerEvent{Worker: "w1", Deed: Deliver, Seq: 1})
	l.Fault(FaultEvent{Number: 1, Kind: "kill", Stage: Injected})
	l.Audit(Audit{Node: "n1", Index: 7, Entry: []byte{1, 2}})
	l.Mark(Mark{Name: FaultsOver})
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	h, err := Read(strings.NewReader(out.String() + `{"at":99,"call":{"id":"cut`))
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Operations) != 2 || h.Operations[0].Return != 3 || h.Operations[0].Answer.Index != 7 {
		t.Fatalf("operations %+v", h.Operations)
	}
	if o := h.Operations[1]; o.Result != Unknown || o.Return != Never {
		t.Errorf("without an answer: %+v", o)
	}
	if len(h.Worker) != 1 || len(h.Faults) != 1 || len(h.Audits["n1"]) != 1 {
		t.Errorf("the rest is %+v", h)
	}
	if at, ok := h.Marked(FaultsOver); !ok || at != 7 {
		t.Errorf("the mark is at %v, %v", at, ok)
	}
}

func TestUnknownIsNeverDropped(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLog(&out, ticking())
	l.Call(Call{ID: "c1-1", Client: "c1", What: Send})
	l.Return(Return{ID: "c1-1", Result: Unknown, Answer: Answer{Error: "the connection broke"}})
	l.Call(Call{ID: "c1-2", Client: "c1", What: Send})
	l.Return(Return{ID: "c1-2", Result: OK, Answer: Answer{Seq: 1}})
	l.Call(Call{ID: "c1-3", Client: "c1", What: Send})
	h, err := Read(&out)
	if err != nil {
		t.Fatal(err)
	}
	if o := h.Operations[0]; o.Return != Never || o.Answer.Error == "" {
		t.Fatalf("unknown was read as %+v", o)
	}
	var edn bytes.Buffer
	if err := h.WriteEDN(&edn); err != nil {
		t.Fatal(err)
	}
	want := `{:index 0, :time 1, :type :invoke, :process 0, :f :send, :value {}}
{:index 1, :time 2, :type :info, :process 0, :f :send, :value {:error "the connection broke"}}
{:index 2, :time 3, :type :invoke, :process 1, :f :send, :value {}}
{:index 3, :time 4, :type :ok, :process 1, :f :send, :value {:seq 1}}
{:index 4, :time 5, :type :invoke, :process 1, :f :send, :value {}}
{:index 5, :time 5, :type :info, :process 1, :f :send, :value {}}
`
	if edn.String() != want {
		t.Errorf("history.edn is\n%s", edn.String())
	}
}

// A process of Jepsen's does one thing at a time, a client several.
func TestAClientThatDoesSeveralThingsIsSeveralProcesses(t *testing.T) {
	t.Parallel()
	var out, edn bytes.Buffer
	l := NewLog(&out, ticking())
	call := func(id string) { l.Call(Call{ID: id, Client: "c1", What: Send}) }
	end := func(id string) { l.Return(Return{ID: id, Result: OK}) }
	call("1")
	call("2")
	end("1")
	call("3")
	end("2")
	end("3")
	h, err := Read(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteEDN(&edn); err != nil {
		t.Fatal(err)
	}
	want := `{:index 0, :time 1, :type :invoke, :process 0, :f :send, :value {}}
{:index 1, :time 2, :type :invoke, :process 1, :f :send, :value {}}
{:index 2, :time 3, :type :ok, :process 0, :f :send, :value {}}
{:index 3, :time 4, :type :invoke, :process 0, :f :send, :value {}}
{:index 4, :time 5, :type :ok, :process 1, :f :send, :value {}}
{:index 5, :time 6, :type :ok, :process 0, :f :send, :value {}}
`
	if edn.String() != want {
		t.Errorf("history.edn is\n%s", edn.String())
	}
}

func TestAHistoryTellsWhetherItIsWhole(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := NewLog(&out, ticking())
	for range 3 {
		l.Mark(Mark{Name: FaultsOver})
	}
	if h, err := Read(strings.NewReader(out.String())); err != nil || h.Whole {
		t.Errorf("while its run goes on: %v", err)
	}
	l.End()
	if h, err := Read(strings.NewReader(out.String())); err != nil || !h.Whole || len(h.Marks) != 3 {
		t.Errorf("at its end: %v", err)
	}
	_, missing, _ := strings.Cut(out.String(), "\n")
	if _, err := Read(strings.NewReader(missing)); err == nil {
		t.Error("a history without its first row is taken")
	}
	l.Mark(Mark{Name: FaultsOver})
	if _, err := Read(&out); err == nil {
		t.Error("a history that goes on behind its end is taken")
	}
}

func TestBrokenHistoriesAreRefused(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a line that is no JSON":     "{\"at\":1}\nnonsense\n",
		"an answer without a call":   `{"at":1,"return":{"id":"c1-1","result":"ok"}}` + "\n",
		"an operation called twice":  strings.Repeat(`{"at":1,"call":{"id":"c1-1","client":"c1","what":"send","args":{}}}`+"\n", 2),
		"a wrong type within a line": `{"at":"soon"}` + "\n",
	} {
		if _, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// brokenWriter fails.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, bytes.ErrTooLarge }

func TestTroubleWithTheWriterIsTold(t *testing.T) {
	t.Parallel()
	l := NewLog(brokenWriter{}, ticking())
	l.Mark(Mark{Name: FaultsOver})
	if l.Err() == nil {
		t.Error("a history with a hole has no error")
	}
}
