package history

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// At is something that happened at a moment of the world's time.
type At[T any] struct {
	At time.Duration
	// Value is what happened.
	Value T
}

// History is a run, read back. Everything is in the order of its time; audits are in the order in which their node
// noted them.
type History struct {
	Operations []Operation
	Worker     []At[WorkerEvent]
	Faults     []At[FaultEvent]
	Audits     map[string][]At[Audit]
	Marks      []At[Mark]
	// Whole: its last row says so. One without it was cut off, or its run goes on.
	Whole bool
}

// Read reads a history. An operation without an answer is Unknown, and returns Never.
func Read(in io.Reader) (*History, error) {
	return Gather(func(take func(Row) error) error { return Rows(in, take) })
}

// Gather is Read of rows that a function hands over, from wherever they are.
func Gather(rows func(take func(Row) error) error) (*History, error) {
	h := &History{Audits: map[string][]At[Audit]{}}
	open := map[string]int{} // where an operation stands in Operations
	taken := 0
	if err := rows(func(r Row) error {
		if h.Whole {
			return fmt.Errorf("history: row %d comes after the end", taken+1)
		}
		if r.End != nil && r.End.Rows != taken {
			return fmt.Errorf("history: %d rows, and %d were written: some are missing", taken, r.End.Rows)
		}
		taken++
		return h.take(r, open)
	}); err != nil {
		return nil, err
	}
	slices.SortStableFunc(h.Operations, func(a, b Operation) int { return cmp.Compare(a.Call, b.Call) })
	sortByTime(h.Worker)
	sortByTime(h.Faults)
	sortByTime(h.Marks)
	return h, nil
}

func sortByTime[T any](all []At[T]) {
	slices.SortStableFunc(all, func(a, b At[T]) int { return cmp.Compare(a.At, b.At) })
}

func (h *History) take(r Row, open map[string]int) error {
	switch {
	case r.Call != nil:
		if _, twice := open[r.Call.ID]; twice {
			return fmt.Errorf("history: the operation %s was called twice", r.Call.ID)
		}
		open[r.Call.ID] = len(h.Operations)
		h.Operations = append(h.Operations, Operation{
			ID: r.Call.ID, Client: r.Call.Client, What: r.Call.What, Args: r.Call.Args, Call: r.At, Return: Never, Result: Unknown,
		})
	case r.Return != nil:
		at, known := open[r.Return.ID]
		if !known {
			return fmt.Errorf("history: the operation %s was answered, and never called", r.Return.ID)
		}
		o := &h.Operations[at]
		o.Result, o.Answer, o.Told = r.Return.Result, r.Return.Answer, r.At
		if o.Result != Unknown {
			o.Return = r.At
		}
	case r.Worker != nil:
		h.Worker = append(h.Worker, At[WorkerEvent]{r.At, *r.Worker})
	case r.Fault != nil:
		h.Faults = append(h.Faults, At[FaultEvent]{r.At, *r.Fault})
	case r.Audit != nil:
		h.Audits[r.Audit.Node] = append(h.Audits[r.Audit.Node], At[Audit]{r.At, *r.Audit})
	case r.Mark != nil:
		h.Marks = append(h.Marks, At[Mark]{r.At, *r.Mark})
	case r.End != nil:
		h.Whole = true
	}
	return nil
}

// Marked is when a mark was set; false: it was not.
func (h *History) Marked(name string) (time.Duration, bool) {
	for _, m := range h.Marks {
		if m.Value.Name == name {
			return m.At, true
		}
	}
	return 0, false
}
