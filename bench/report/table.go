package report

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// PrintSamples prints a table of medians; the rate, on which goals hang, with its least and greatest.
func PrintSamples(out io.Writer, samples []Sample) {
	if len(samples) == 0 {
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	row := func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprintf(w, "\t %v ", cell)
		}
		fmt.Fprintln(w, "\t")
	}
	mode := ""
	for _, g := range groups(samples) {
		if g.Mode != mode {
			_ = w.Flush() // the writer takes it or is gone
			mode = g.Mode
			fmt.Fprintf(out, "\n%s, medians of %d (least–greatest):\n\n", mode, len(g.Samples))
			row("what", "senders", "per second", "p50", "p99", "p99.9", "CPU of the servers for 1M", "CPU of the load for 1M", "bytes written a message", "foreign CPU", "elections", "repeated")
			row("---", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:", "---:")
		}
		g.print(row)
	}
	_ = w.Flush()
}

func (g Group) print(row func(cells ...any)) {
	latency := func(of func(Sample) float64) time.Duration {
		return Round(time.Duration(g.Of(of).Median * float64(time.Second)))
	}
	perMillion := func(of func(Sample) float64) string { return fmt.Sprintf("%.0f s", g.Of(of).Median*1e6) }
	ranged := func(of func(Sample) float64, format string) string {
		s := g.Of(of)
		return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Least, s.Greatest)
	}
	var stood *uint64
	repeated := int64(0)
	for _, s := range g.Samples {
		if repeated += s.Repeated; s.Elections != nil {
			if stood == nil {
				stood = new(uint64)
			}
			*stood += *s.Elections
		}
	}
	s := g.Of(p99)
	inMs := func(seconds float64) time.Duration { return Round(time.Duration(seconds * float64(time.Second))) }
	row(g.Who, g.Senders, ranged(rate, "%.0f"), latency(p50), fmt.Sprintf("%v (%v–%v)", latency(p99), inMs(s.Least), inMs(s.Greatest)), latency(p999),
		perMillion(serverCPU), perMillion(loadCPU), ranged(written, "%.0f"), ranged(foreign, "%.2f"), elections(stood), repeated)
}

// PrintAgainst prints, for each number of senders, how many times as much as a yardstick another one does.
func PrintAgainst(w io.Writer, samples []Sample, yardstick string) {
	all := groups(samples)
	for _, g := range all {
		for _, base := range all {
			if base.Who == yardstick && g.Who != yardstick && base.Senders == g.Senders && base.Payload == g.Payload && base.Mode == g.Mode {
				fmt.Fprintf(w, "%s / %s, %d senders: %.2f\n", g.Who, yardstick, g.Senders, g.Of(rate).Median/base.Of(rate).Median)
			}
		}
	}
}
