package check

import (
	"testing"
	"time"

	logv1 "sluice/api/log/v1"
	"sluice/jepsen/history"
)

// leaseStep is an entry for the checker of leases: when it was proposed and applied, in seconds, and in which term.
type leaseStep struct {
	term              uint64
	proposed, applied int
	command           *logv1.Command
}

func open(ttl time.Duration) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_OpenSession{OpenSession: &logv1.OpenSession{SessionId: "s", TtlMs: ttl.Milliseconds()}}}
}

func leader() *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_LeaderElected{LeaderElected: &logv1.LeaderElected{}}}
}

func expire() *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_ExpireSessions{ExpireSessions: &logv1.ExpireSessions{SessionIds: []string{"s"}}}}
}

func TestALeaseThatIsCutShortIsCaught(t *testing.T) {
	t.Parallel()
	skew := &history.History{Faults: []history.At[history.FaultEvent]{
		{At: 90 * time.Second, Value: history.FaultEvent{Number: 1, Kind: "clock-skew", Stage: history.Injecting}},
	}}
	for name, test := range map[string]struct {
		short   bool
		history *history.History
		steps   []leaseStep
	}{
		"by the leader that opened it": {true, nil, []leaseStep{{1, 50, 50, open(0)}, {1, 51, 51, expire()}}},
		"by a new leader":              {true, nil, []leaseStep{{1, 0, 0, open(0)}, {1, 99, 99, leader()}, {2, 100, 100, leader()}, {2, 100, 101, expire()}}},
		"a first entry long in coming": {false, nil, []leaseStep{{1, 0, 0, open(0)}, {1, 80, 80, leader()}, {2, 100, 100, leader()}, {2, 100, 101, expire()}}},
		"the same by a clock behind":   {false, nil, []leaseStep{{1, 0, 0, open(0)}, {1, 100, 80, leader()}, {2, 100, 100, leader()}, {2, 100, 101, expire()}}},
		"a clock behind, soon":         {true, nil, []leaseStep{{1, 0, 0, open(0)}, {1, 100, 99, leader()}, {2, 100, 100, leader()}, {2, 100, 101, expire()}}},
		"a whole one":                  {false, nil, []leaseStep{{1, 0, 0, open(0)}, {2, 100, 100, leader()}, {2, 115, 115, expire()}}},
		"an entry that hung in a disk": {false, nil, []leaseStep{{1, 0, 0, open(0)}, {2, 100, 116, leader()}, {2, 115, 116, expire()}}},
		"a clock that stood still":     {false, nil, []leaseStep{{1, 0, 0, open(0)}, {2, 100, 100, leader()}, {2, 100, 115, expire()}}},
		"a clock that jumped":          {false, skew, []leaseStep{{1, 0, 0, open(0)}, {2, 100, 100, leader()}, {2, 100, 101, expire()}}},
		"one of a second":              {false, nil, []leaseStep{{1, 50, 50, open(time.Second)}, {1, 51, 51, expire()}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &Case{History: &history.History{}, leases: leaseTimes{open: map[string]lease{}, terms: map[uint64]moment{}, last: map[uint64]moment{}}}
			if test.history != nil {
				c.History = test.history
			}
			for n, s := range test.steps {
				e := Entry{Index: uint64(n + 1), Term: s.term, At: time.Duration(s.applied) * time.Second}
				c.leases.note(c, e, &logv1.Entry{TimeMs: int64(s.proposed) * 1000, Commands: []*logv1.Command{s.command}})
			}
			if found := Lease(c); (len(found) > 0) != test.short {
				t.Errorf("%v", found)
			}
		})
	}
}
