package main

import "testing"

// Epochs through handovers (docs/adr/0030, decisions 6, 8 and 10), in all orders of events at a small scope: one
// instance, two groups, two application-wide entries into recovery, three handovers, and as many commands as fit.
const (
	handoverVersions  = 2
	handoverMoves     = 3
	handoverPositions = 7
)

// handoverRules can be broken, to see that the search notices.
type handoverRules struct{ keepsPosition, keepsGeneration, leavesBehind, takesOlder, greater bool }

// handoverGroup is a group as far as epochs go.
type handoverGroup struct {
	position   int
	version    int // of the applications
	generation int // the position at which it took the version up
}

type handoverState struct {
	version    int // of the system group
	groups     [2]handoverGroup
	owner      int
	epoch      int
	generation int
	recovering bool
	// entered is the version for which the instance was last entered into recovery: what the search compares with.
	entered int
	moves   int
	// greater: the epoch is the greater of the instance's own and its group's generation.
	greater bool
}

func (s handoverState) group() handoverGroup { return s.groups[s.owner] }

func (s handoverState) behind() bool { return s.generation < s.group().generation }

// effective is the epoch that workers are held to. The greater of the two would do in one group, where who is up to date
// has an epoch above the generation.
func (s handoverState) effective() int {
	switch {
	case s.greater:
		return max(s.epoch, s.group().generation)
	case s.behind():
		return s.group().generation
	default:
		return s.epoch
	}
}

// enteredFor is the version for which it is, or was, in recovery.
func (s handoverState) enteredFor() int {
	if s.behind() {
		return s.group().version
	}
	return s.entered
}

// mint gives out the next position of the instance's group.
func (s *handoverState) mint() int {
	s.groups[s.owner].position++
	return s.group().position
}

// caughtUp is the state once a command has touched the instance.
func (s handoverState) caughtUp() handoverState {
	if s.behind() {
		s.entered = s.enteredFor()
		s.epoch, s.generation, s.recovering = s.effective(), s.group().generation, true
	}
	return s
}

func (s handoverState) next(r handoverRules) (all []handoverState) {
	if s.version < handoverVersions {
		n := s
		n.version++
		all = append(all, n)
	}
	for g := range s.groups {
		if n := s; n.groups[g].position < handoverPositions {
			n.groups[g].position++ // a command that concerns others
			all = append(all, n)
			if n.groups[g].version < n.version {
				n.groups[g].version, n.groups[g].generation = n.version, n.groups[g].position
				all = append(all, n)
			}
		}
	}
	if s.group().position < handoverPositions {
		enter, complete := s.caughtUp(), s.caughtUp()
		enter.epoch, enter.recovering = enter.mint(), true
		all = append(all, enter)
		if complete.recovering {
			complete.epoch, complete.recovering = complete.mint(), false
			all = append(all, complete)
		}
	}
	if s.moves < handoverMoves && (r.takesOlder || s.groups[1-s.owner].version >= s.group().version) {
		all = append(all, s.move(r))
	}
	return all
}

// move is Leave and Arrived: between them nothing can happen to the instance.
func (s handoverState) move(r handoverRules) handoverState {
	n, from := s, s.group()
	n.owner, n.moves = 1-s.owner, s.moves+1
	to := &n.groups[n.owner]
	if !r.keepsPosition {
		to.position = max(to.position, from.position)
	}
	behind := s.behind() || to.version > from.version
	if r.keepsGeneration {
		return n
	}
	n.generation = to.generation
	switch {
	case behind && r.leavesBehind:
		n.generation = to.generation - 1 // to be caught up when it is next touched, as usual
	case behind:
		n.epoch, n.recovering, n.entered = n.mint(), true, to.version
	}
	return n
}

// breach says what a step broke.
func (s handoverState) breach(n handoverState) string {
	switch {
	case n.effective() < s.effective():
		return "the epoch ran back"
	case n.owner != s.owner && n.enteredFor() == s.enteredFor() && !s.behind() && n.effective() != s.effective():
		return "a handover fenced off an owner for nothing"
	case n.enteredFor() > s.enteredFor() && n.effective() <= s.effective():
		return "an application-wide entry fenced nobody"
	case n.enteredFor() != n.group().version:
		return "the instance missed an application-wide entry that its group knows, or was entered for one that it does not"
	case n.recovering != s.recovering && n.effective() <= s.effective() && !s.behind():
		return "the mode changed under one epoch"
	}
	return ""
}

// searchHandovers goes through all states that can be reached.
func searchHandovers(r handoverRules) (states, moved int, wrong string) {
	begin := handoverState{greater: r.greater}
	seen := map[handoverState]bool{begin: true}
	for open := []handoverState{begin}; len(open) > 0; {
		s := open[len(open)-1]
		open = open[:len(open)-1]
		moved = max(moved, s.moves)
		for _, n := range s.next(r) {
			if wrong := s.breach(n); wrong != "" {
				return len(seen), moved, wrong
			}
			if !seen[n] {
				seen[n] = true
				open = append(open, n)
			}
		}
	}
	return len(seen), moved, ""
}

func TestEpochsGrowThroughHandovers(t *testing.T) {
	t.Parallel()
	states, moved, wrong := searchHandovers(handoverRules{})
	if wrong != "" || moved != handoverMoves {
		t.Errorf("%s (%d handovers)", wrong, moved)
	}
	t.Logf("%d states", states)
}

func TestAHandoverNeedsEachOfItsRules(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]handoverRules{
		"keeps the target's position":                {keepsPosition: true},
		"keeps the generation of the source":         {keepsGeneration: true},
		"leaves who is behind to be caught up later": {leavesBehind: true},
		"moves to a group that knows less":           {takesOlder: true},
		"takes the greater of epoch and generation":  {greater: true},
	} {
		if _, _, wrong := searchHandovers(r); wrong == "" {
			t.Errorf("a handover that %s passes", name)
		} else {
			t.Logf("%s: %s", name, wrong)
		}
	}
}
