package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	sluicev1 "sluice/api/sluice/v1"
)

// numbers shows a history: number of each attempt, its error and its session.
func numbers(attempts []*sluicev1.Attempt) string {
	var all []string
	for _, a := range attempts {
		all = append(all, fmt.Sprintf("%d:%s:%s", a.Number, a.Error, a.SessionId))
	}
	return strings.Join(all, " ")
}

func TestAttemptsAreKeptWithTheirErrors(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(3), backoff(time.Second, time.Second))
	r.send("i", "a", "b")
	r.own("i", "s")
	e := r.instance("i").Epoch
	r.fail("s", "i", 3)
	const want = "1:error 1:s 2:error 2:s 3:error 3:s"
	m := r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0]
	if got := numbers(m.AttemptHistory); got != want {
		t.Errorf("listed: %s", got)
	}
	if a := m.AttemptHistory[1]; a.Epoch != e || a.Time.AsTime().UnixMilli() != start+time.Minute.Milliseconds() {
		t.Errorf("the second attempt: %v", a)
	}
	// The recovery handler of a poison message sees them, and those of no other message.
	doubt := r.announcement("i").Recovery.InDoubt
	if got := numbers(doubt[0].Attempts); got != want {
		t.Errorf("in doubt: %s", got)
	}
	// After a completed recovery a new series begins; the history goes on.
	r.complete("i", 0)
	r.fail("s", "i", 1)
	m = r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0]
	if got := numbers(m.AttemptHistory); got != want+" 1:error 1:s" {
		t.Errorf("after a recovery: %s", got)
	}
}

func TestTheHistoryOfAttemptsIsBounded(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(0), backoff(time.Second, time.Second))
	r.send("i", "a")
	r.own("i", "s")
	r.fail("s", "i", 12)
	r.advance(time.Minute)
	long := failure(r.head("i"), strings.Repeat("é", 2000))
	if v := r.settle("s", long); v != "" {
		t.Fatal(v)
	}
	m := r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0]
	h := m.AttemptHistory
	if len(h) != 10 || h[0].Number != 4 || h[9].Number != 13 || m.Attempts != 13 {
		t.Fatalf("%d attempts, kept: %s", m.Attempts, numbers(h))
	}
	if want := strings.Repeat("é", 512) + "…"; h[9].Error != want || m.LastError != long.ErrorText {
		t.Errorf("an error of %d bytes is kept as %d", len(long.ErrorText), len(h[9].Error))
	}
}

func TestDeadLettersKeepTheirAttempts(t *testing.T) {
	t.Parallel()
	r := setup(t, maxAttempts(2), atMaxAttempts(sluicev1.Policy_POLICY_DEAD_LETTER), backoff(time.Second, time.Second))
	r.send("i", "failed", "rejected", "resolved", "plain")
	r.own("i", "s")
	r.fail("s", "i", 2)
	r.fail("s", "i", 1)
	r.advance(time.Minute)
	no := taking(r.head("i"), outRejected)
	no.ErrorText = "no good"
	r.settle("s", no)
	r.fail("s", "i", 1)
	r.advance(time.Minute)
	for _, seq := range []uint64{3, 4} {
		r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: seq, Lane: laneNormal, Action: sluicev1.ResolveAction_ACTION_DEAD_LETTER}))
	}
	want := map[string]string{"failed": "1:error 1:s 2:error 2:s", "rejected": "1:error 1:s 2:no good:s", "resolved": "1:error 1:s", "plain": ""}
	for _, d := range r.deadLetters("i") {
		if got := numbers(d.DeadLetter.Attempts); got != want[d.Message.Id] || numbers(d.AttemptHistory) != got {
			t.Errorf("%s: %s", d.Message.Id, got)
		}
	}
	// What is remembered of the message by its id is small.
	if s := r.wantSettled("i", "failed", kindDead); s.DeadLetter.LastError != "error 2" || s.DeadLetter.Attempts != nil {
		t.Error(s)
	}
}

func TestAttemptsThatAnOwnerLostAreKept(t *testing.T) {
	t.Parallel()
	r := setup(t, redeliver)
	r.send("i", "a")
	r.own("i", "s")
	r.expire("s")
	if got := numbers(r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0].AttemptHistory); got != "1:owner lost:s" {
		t.Error(got)
	}
}
