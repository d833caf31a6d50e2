package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// table is a Markdown table with a heading.
type table struct {
	title string
	rows  [][]string
	notes []string
}

func newTable(title string, columns ...string) *table {
	return &table{title: title, rows: [][]string{columns}}
}

func (t *table) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprint(c)
	}
	t.rows = append(t.rows, texts)
}

// note adds a line below the table.
func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

// print writes the table; the first column is text, the others are numbers.
func (t *table) print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**\n\n", t.title)
	for i, cells := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|---|%s\n", strings.Repeat("---:|", len(cells)-1))
		}
	}
	b.WriteByte('\n')
	for _, n := range t.notes {
		fmt.Fprintf(&b, "%s\n\n", n)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// count writes a number with commas.
func count(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// bytes writes a number of bytes in decimal units.
func bytes(v float64) string { return scaled(v, 1000, "B", "kB", "MB", "GB", "TB") }

// length writes a time in seconds.
func length(seconds float64) string {
	switch {
	case seconds >= 120:
		return fmt.Sprintf("%.1f min", seconds/60)
	case seconds >= 1:
		return fmt.Sprintf("%.2f s", seconds)
	case seconds >= 1e-3:
		return fmt.Sprintf("%.3g ms", seconds*1e3)
	case seconds >= 1e-6 || seconds == 0:
		return fmt.Sprintf("%.3g µs", seconds*1e6)
	default:
		return fmt.Sprintf("%.3g ns", seconds*1e9)
	}
}

// times writes lengths of time.
func times(all ...time.Duration) string {
	var texts []string
	for _, d := range all {
		texts = append(texts, length(d.Seconds()))
	}
	return strings.Join(texts, ", ")
}

func scaled(v, step float64, units ...string) string {
	unit := 0
	for v >= step && unit < len(units)-1 {
		v /= step
		unit++
	}
	if unit == 0 || v >= 100 {
		return fmt.Sprintf("%.0f %s", v, units[unit])
	}
	return fmt.Sprintf("%.3g %s", v, units[unit])
}

func percent(v float64) string { return fmt.Sprintf("%.1f %%", 100*v) }

func sum(values []float64) (total float64) {
	for _, v := range values {
		total += v
	}
	return total
}

// quantile is the value that a share of the values do not exceed.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}
