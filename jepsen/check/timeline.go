package check

import (
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"sluice/jepsen/history"
	"sluice/jepsen/model"
)

// The timeline's measures, in pixels.
const (
	lineWidth   = 1600
	faultHeight = 14
	bandHeight  = 26
	laneHeight  = 360
	margin      = 20
)

// timeline draws one instance.
type timeline struct {
	*Case
	i    *model.Instance
	end  time.Duration
	body strings.Builder
	y    int
}

// Busiest is the instance with most changes of mode: the one to look at.
func (c *Case) Busiest() *model.Instance {
	counts := map[*model.Instance]int{}
	var busiest *model.Instance
	for _, t := range c.Model.Transitions {
		counts[t.Instance]++
		if busiest == nil || counts[t.Instance] > counts[busiest] {
			busiest = t.Instance
		}
	}
	return busiest
}

// Timeline writes an instance's run as one page that needs nothing else: faults above, the band of its modes, and each
// message from acceptance to settlement, by its number. Everything tells more under the pointer.
func (c *Case) Timeline(out io.Writer, i *model.Instance) error {
	t := &timeline{Case: c, i: i, y: margin}
	for _, e := range c.Committed {
		t.end = max(t.end, e.At)
	}
	t.faults()
	t.modes()
	t.messages()
	t.axis()
	_, err := fmt.Fprintf(out, `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title><style>
body{font:13px sans-serif;margin:16px} .normal{fill:#9fd8a4} .recovery{fill:#f2a49b} .draining{fill:#f5dd8b}
.fault{fill:#7f8ea3} .accepted{stroke:#2b6cb0} .deferred{stroke:#c77d0a} .lane-recovery{stroke:#b83280}
.end-completed{fill:#222} .end-skipped,.end-dead-lettered{fill:#d00} text{font:11px sans-serif} line{stroke-width:1.5} .axis{stroke:#999;stroke-width:1}
</style></head><body><h1>%s</h1>
<p>Bands: <b style="background:#9fd8a4">normal</b> <b style="background:#f2a49b">recovery</b> <b style="background:#f5dd8b">draining</b>.
Lines are messages, from acceptance to settlement, higher for later ones: blue accepted, orange deferred, purple in the recovery lane; a red end was skipped or dead-lettered. Grey are faults.</p>
<svg width="%d" height="%d" role="img" aria-label="timeline of %s">%s</svg></body></html>
`, html.EscapeString(i.ID.String()), html.EscapeString(i.ID.String()), lineWidth+2*margin, t.y+margin, html.EscapeString(i.ID.String()), t.body.String())
	if err != nil {
		return fmt.Errorf("check: timeline: %w", err)
	}
	return nil
}

func (t *timeline) x(at time.Duration) float64 {
	return margin + float64(lineWidth)*min(1, float64(at)/float64(max(t.end, 1)))
}

// bar draws a span of time with a text under the pointer.
func (t *timeline) bar(class string, from, to time.Duration, y, height int, title string) {
	fmt.Fprintf(&t.body, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s</title></rect>`+"\n",
		class, t.x(from), y, max(1, t.x(to)-t.x(from)), height, html.EscapeString(title))
}

func (t *timeline) faults() {
	began := map[int]time.Duration{}
	var busy []time.Duration // until when each row is taken
	for _, f := range t.Faults {
		switch f.Value.Stage {
		case history.Injecting:
			began[f.Value.Number] = f.At
		case history.Healed, history.Failing:
			from, row := began[f.Value.Number], 0
			for row < len(busy) && busy[row] > from {
				row++
			}
			if row == len(busy) {
				busy = append(busy, 0)
			}
			busy[row] = f.At
			t.bar("fault", from, f.At, t.y+row*(faultHeight+2), faultHeight, fmt.Sprintf("%s, %v to %v", f.Value.Text, from.Round(time.Millisecond), f.At.Round(time.Millisecond)))
		}
	}
	t.y += len(busy)*(faultHeight+2) + 8
}

func (t *timeline) modes() {
	versions := t.i.Versions
	for n := 0; n < len(versions); {
		last := n
		for last < len(versions) && versions[last].Mode == versions[n].Mode && versions[last].Epoch == versions[n].Epoch {
			last++
		}
		until := t.end
		if last < len(versions) {
			until = t.times[versions[last].At.Index]
		}
		from := t.times[versions[n].At.Index]
		t.bar(versions[n].Mode, from, until, t.y, bandHeight, fmt.Sprintf("%s, epoch %d, entry %v, %v to %v", versions[n].Mode, versions[n].Epoch.Number, versions[n].At, from.Round(time.Millisecond), until.Round(time.Millisecond)))
		n = last
	}
	t.y += bandHeight + 8
}

func (t *timeline) messages() {
	most := max(t.i.NextSeq, 1)
	for _, l := range t.Model.Lives {
		if l.Instance != t.i {
			continue
		}
		from := t.times[l.Accepted.Index]
		to, settled := t.settledAt(l)
		if !settled {
			to = t.end
		}
		class := l.Disposition
		if l.Lane == 1 {
			class = "lane-recovery"
		}
		y := t.y + laneHeight - int(uint64(laneHeight)*l.Seq/most)
		title := html.EscapeString(fmt.Sprintf("seq %d %s %q, %s in %s mode, %s after %v", l.Seq, l.Message.Type, l.Message.Id, l.Disposition, l.Mode, settlementOf(l), (to - from).Round(time.Millisecond)))
		fmt.Fprintf(&t.body, `<g><title>%s</title><line class="%s" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><circle class="end-%s" cx="%.1f" cy="%d" r="2"/></g>`+"\n",
			title, class, t.x(from), y, t.x(to), y, l.Settlement, t.x(to), y)
	}
	t.y += laneHeight + 8
}

// axisMarks is how many times are written below.
const axisMarks = 10

func (t *timeline) axis() {
	for n := range axisMarks + 1 {
		at := t.end * time.Duration(n) / axisMarks
		fmt.Fprintf(&t.body, `<line class="axis" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d">%.1f s</text>`+"\n", t.x(at), margin, t.x(at), t.y, t.x(at)+2, t.y+10, at.Seconds())
	}
	t.y += 12
}
