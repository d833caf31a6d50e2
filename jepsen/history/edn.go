package history

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ednOp is one line of a history.edn.
type ednOp struct {
	at      time.Duration
	process string
	kind    string // :invoke, :ok, :fail or :info
	f       string
	value   string
}

// WriteEDN writes the operations and faults as Jepsen does: one map a line, :invoke, then :ok, :fail or :info. Every
// client is a process, and one more for what it does meanwhile, until an operation is unknown: that process has crashed then,
// and the client goes on as the next one. An operation that nothing was said of has its :info at the end.
func (h *History) WriteEDN(out io.Writer) error {
	lines := h.ednLines()
	w := bufio.NewWriter(out)
	for index, l := range lines {
		if _, err := fmt.Fprintf(w, "{:index %d, :time %d, :type %s, :process %s, :f :%s, :value %s}\n", index, l.at.Nanoseconds(), l.kind, l.process, l.f, l.value); err != nil {
			return fmt.Errorf("history: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	return nil
}

// ednProcess does one thing at a time: it is busy until then.
type ednProcess struct {
	name string
	busy time.Duration
}

func (h *History) ednLines() (lines []ednOp) {
	processes := map[string][]*ednProcess{}
	next, last := 0, time.Duration(0)
	for _, o := range h.Operations {
		last = max(last, o.Call, o.Told)
	}
	for _, o := range h.Operations {
		at := slices.IndexFunc(processes[o.Client], func(p *ednProcess) bool { return p.busy <= o.Call })
		if at < 0 {
			at = len(processes[o.Client])
			processes[o.Client] = append(processes[o.Client], &ednProcess{name: strconv.Itoa(next)})
			next++
		}
		process := processes[o.Client][at]
		process.busy = o.Return
		lines = append(lines, ednOp{o.Call, process.name, ":invoke", string(o.What), edn(o.Args)})
		end := ednOp{o.Return, process.name, "", string(o.What), edn(o.Answer)}
		switch o.Result {
		case OK:
			end.kind = ":ok"
		case Fail:
			end.kind = ":fail"
		case Unknown:
			end.kind, end.at = ":info", cmp.Or(o.Told, last)
			processes[o.Client] = slices.Delete(processes[o.Client], at, at+1)
		}
		lines = append(lines, end)
	}
	for _, f := range h.Faults {
		lines = append(lines, ednOp{f.At, ":nemesis", ":info", f.Value.Kind, edn(f.Value)})
	}
	slices.SortStableFunc(lines, func(a, b ednOp) int { return cmp.Compare(a.at, b.at) })
	return lines
}

// edn writes the fields of a flat struct that are not zero, by their names in JSON.
func edn(v any) string {
	var fields []string
	value := reflect.ValueOf(v)
	for n := range value.NumField() {
		field := value.Field(n)
		if field.IsZero() {
			continue
		}
		name, _, _ := strings.Cut(value.Type().Field(n).Tag.Get("json"), ",")
		text := fmt.Sprint(field.Interface())
		if field.Kind() == reflect.String {
			text = strconv.Quote(field.String())
		}
		fields = append(fields, ":"+name+" "+text)
	}
	return "{" + strings.Join(fields, ", ") + "}"
}
