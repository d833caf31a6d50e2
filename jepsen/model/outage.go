package model

import (
	"regexp"
	"slices"
)

// alike is a pattern of failures, and the instances whose last failure it is.
type alike struct {
	text      string
	first     int64
	instances map[*Instance]bool
}

// patternsMost is how many patterns of failures an application counts at a time.
const patternsMost = 16

// varying are the parts of an error text that differ between failures of one kind, in the order in which they are
// taken out: quoted strings, UUIDs, hexadecimal ids of 8 digits and more, runs of digits.
var varying = []*regexp.Regexp{
	regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`"),
	regexp.MustCompile(`\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b`),
	regexp.MustCompile(`\b(0[xX])?[0-9a-fA-F]{8,}\b`),
	regexp.MustCompile(`[0-9]+`),
}

// common is what an error text has in common with those that are alike: all but what varies, 256 bytes of it.
func common(text string) string {
	for _, v := range varying {
		text = v.ReplaceAllString(text, "#")
	}
	return text[:min(len(text), 256)]
}

// failedAlike counts an instance of which an attempt was reported as failed, for the pattern of that failure alone, and
// tells whether it is an outage by now.
func (m *Machine) failedAlike(i *Instance, text string) bool {
	a := i.app
	if a.outageInstances == 0 || i.Mode == Recovery {
		return false
	}
	text = common(text)
	var p *alike
	for _, other := range a.failures {
		if other.text == text && m.clock-other.first < a.outageWindow {
			p = other
		}
	}
	if p == nil {
		p = &alike{text, m.clock, map[*Instance]bool{}}
	}
	for _, other := range a.failures {
		if other != p {
			delete(other.instances, i)
		}
	}
	p.instances[i] = true
	a.failures = append(slices.DeleteFunc(a.failures, func(other *alike) bool { return other.text == text || len(other.instances) == 0 }), p)
	a.failures = a.failures[max(len(a.failures)-patternsMost, 0):]
	return len(p.instances) >= a.outageInstances
}

// outage enters the application into recovery as a whole. The attempt that showed it has ended and its message waits, so
// that it is neither in doubt nor at its last attempt.
func (m *Machine) outage(l *Life, wait int64, text string) {
	lane := &l.Instance.Lanes[l.Lane]
	lane.attempts++
	lane.wait = m.clock + wait
	m.free(l.Instance)
	m.Happened["outage"]++
	m.enterWhole(l.Instance.app, 0, common(text))
}
