package fsm

import (
	"slices"
	"strings"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// class says in which modes a message is suitable.
type class byte

const (
	classNormal class = iota
	classRecovery
	classBoth
)

// pattern is a message exchange pattern, ready for look-ups.
type pattern struct {
	name  string
	types map[string]*messageType
	names []string // as declared
}

type messageType struct {
	name          string
	class         class
	after         []string
	opens, closes bool
}

func compile(declared []*sluicev1.Pattern) (ps []*pattern) {
	for _, d := range declared {
		p := &pattern{name: d.Name, types: make(map[string]*messageType, len(d.Types)), names: typeNames(d)}
		for _, ty := range d.Types {
			p.types[ty.Name] = &messageType{name: ty.Name, class: classOf(ty.Suitable), after: ty.After, opens: ty.Opens, closes: ty.Closes}
		}
		ps = append(ps, p)
	}
	return ps
}

func classOf(s sluicev1.Suitability) class {
	switch s {
	case sluicev1.Suitability_SUITABLE_RECOVERY:
		return classRecovery
	case sluicev1.Suitability_SUITABLE_BOTH:
		return classBoth
	default:
		return classNormal
	}
}

// classByName is the class of a type in an application that declares no pattern.
func classByName(typ string) class {
	if strings.HasPrefix(typ, "recovery.") {
		return classRecovery
	}
	return classNormal
}

// pattern finds a pattern by its name; nil when the application does not declare it.
func (a *application) pattern(name string) *pattern {
	for _, p := range a.patterns {
		if p.name == name {
			return p
		}
	}
	return nil
}

// opening finds the first pattern in which a type opens a transaction; nil when there is none.
func (a *application) opening(typ string) *pattern {
	for _, p := range a.patterns {
		if ty := p.types[typ]; ty != nil && ty.opens {
			return p
		}
	}
	return nil
}

// judge tells whether a type may come after the last sequenced one.
func (p *pattern) judge(typ, last string) (*messageType, error) {
	ty := p.types[typ]
	if ty == nil {
		return nil, reason.UnknownType.Errorf("pattern %q does not know type %q; it knows %s", p.name, cut(typ), list(p.names))
	}
	if len(ty.after) > 0 && !slices.Contains(ty.after, last) {
		return nil, reason.OutOfPattern.Errorf("pattern %q allows %q only %s; %s; allowed now: %s", p.name, typ, places(ty.after), soFar(last), list(p.allowed(last)))
	}
	return ty, nil
}

// allowed lists the types that may come after the last sequenced one.
func (p *pattern) allowed(last string) (names []string) {
	for _, n := range p.names {
		if ty := p.types[n]; len(ty.after) == 0 || slices.Contains(ty.after, last) {
			names = append(names, n)
		}
	}
	return names
}

// places says where in a transaction a type may stand.
func places(after []string) string {
	later := slices.DeleteFunc(slices.Clone(after), func(s string) bool { return s == "" })
	switch {
	case len(later) == len(after):
		return "after " + list(later)
	case len(later) == 0:
		return "as the first of its transaction"
	}
	return "as the first of its transaction, or after " + list(later)
}

// soFar says which step a transaction is at.
func soFar(last string) string {
	if last == "" {
		return "the transaction has no step yet"
	}
	return "its last step is " + last
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	const most = 30
	shown := make([]string, 0, most)
	for n, s := range names {
		if n == most {
			shown = append(shown, "…")
			break
		}
		shown = append(shown, s)
	}
	return strings.Join(shown, ", ")
}
