package fsm_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

func putBackCommand(q *sluicev1.PutBackRequest) *logv1.Command {
	q.Application = "app"
	if q.Lane == 0 {
		q.Lane = laneNormal
	}
	return &logv1.Command{Kind: &logv1.Command_PutBack{PutBack: q}}
}

// putBack puts dead letters of the normal lane back, and wants each to be back, or to wait.
func (r *rig) putBack(key string, waiting bool, seqs ...uint64) {
	r.t.Helper()
	for _, res := range r.ok(putBackCommand(&sluicev1.PutBackRequest{Instance: key, Seqs: seqs, Reason: "mended"})).GetPutBack().Results {
		if res.Error != nil || res.Waiting != waiting || res.MessageId == "" {
			r.t.Fatal(res)
		}
	}
}

// bury dead-letters messages of the normal lane by an operator's hand.
func (r *rig) bury(key string, seqs ...uint64) {
	r.t.Helper()
	for _, seq := range seqs {
		r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: key, Seq: seq, Lane: laneNormal, Action: deadLetter, Reason: "bad"}))
	}
}

// lane names what is in the inbox of an instance, in order.
func (r *rig) lane(key string) string {
	r.t.Helper()
	var ids []string
	for _, m := range r.messages(&sluicev1.ListMessagesRequest{Instance: key}) {
		ids = append(ids, m.Message.Id)
	}
	return strings.Join(ids, " ")
}

func (r *rig) wantLane(key, want string) {
	r.t.Helper()
	if got := r.lane(key); got != want {
		r.t.Fatalf("in the inbox of %s: want %q, got %q", key, want, got)
	}
}

func TestPutBackInRecovery(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.send("i", "a", "b", "c", "d")
	before := r.instance("i")
	r.bury("i", 1, 3)
	r.wantLane("i", "b d")
	r.putBack("i", false, 3, 1)
	r.wantLane("i", "a b c d")
	after := r.instance("i")
	if after.DeferredMessages != before.DeferredMessages || after.DeferredBytes != before.DeferredBytes || after.Epoch != before.Epoch {
		t.Fatal(before, after)
	}
	if after.OldestDeferredTime.AsTime() != before.OldestDeferredTime.AsTime() {
		t.Fatal(after.OldestDeferredTime)
	}
	st := r.wantStatus("i", "a", held)
	if n := len(st.Edits); n != 2 || st.Edits[0].Action != "dead-lettered" || st.Edits[1].Action != "put back" || st.Edits[1].Reason != "mended" || st.Edits[1].Actor != "tester" {
		t.Fatal(st.Edits)
	}
	if r.doubts("i") != "" || len(r.deadLetters("i")) != 0 {
		t.Fatal(r.doubts("i"), r.deadLetters("i"))
	}
	// The id still stands for the message, and the drain has it in its place.
	if again := r.put(message("i", "a", "step")); !again.Duplicate || again.Seq != 1 {
		t.Fatal(again)
	}
	r.complete("i", 0)
	r.own("i", "s")
	r.work("s", "i", "a", "b", "c", "d")
	r.wantMode("i", normal)
	r.wantSettled("i", "a", kindCompleted)
}

// TestPutBackBehindWhatIsOut: in normal mode a dead letter comes back at the head, once what is out is settled,
// and under a new epoch, for its worker may hold it still under the old one.
func TestPutBackBehindWhatIsOut(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.send("i", "a", "b", "c", "d", "e")
	r.bury("i", 1)
	r.own("i", "s")
	r.wantOuts("i", "b c")
	held := r.head("i")
	r.putBack("i", true, 1)
	r.putBack("i", true, 1) // it waits already
	if dead := r.deadLetters("i"); len(dead) != 1 {
		t.Fatal(dead)
	}
	r.work("s", "i", "b")
	r.wantOuts("i", "c") // nothing more goes out
	e := r.instance("i").Epoch
	r.work("s", "i", "c")
	grew(t, "put back", e, r.instance("i").Epoch)
	r.wantOuts("i", "a d")
	if v := r.settle("s", taking(held, outCompleted)); v != "duplicate" {
		t.Fatal(v)
	}
	if d := r.head("i"); d.Attempt != 1 || !slices.Equal([]uint64{d.Seq}, []uint64{1}) {
		t.Fatal(d)
	}
	r.work("s", "i", "a", "d", "e")
}

// TestPutBackAfterRejection: the settlement that made it a dead letter is fenced off when it is repeated.
func TestPutBackAfterRejection(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a")
	r.own("i", "s")
	rejected := taking(r.head("i"), outRejected)
	rejected.ErrorText = "cannot"
	if v := r.settle("s", rejected); v != "" {
		t.Fatal(v)
	}
	r.putBack("i", false, 1)
	if v := r.settle("s", rejected); v != "STALE_EPOCH" {
		t.Fatal(v)
	}
	m := r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0]
	if m.Attempts != 1 || m.LastError != "cannot" || len(m.AttemptHistory) != 1 {
		t.Fatal(m)
	}
	r.work("s", "i", "a")
	if st := r.wantSettled("i", "a", kindCompleted); st.Attempts != 1 || st.DeadLetter != nil {
		t.Fatal(st)
	}
}

// TestPutBackWhenNothingIsOut goes through all that ends the waiting but a settlement.
func TestPutBackWhenNothingIsOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		ends  func(*rig)
		outs  string // afterwards, with an owner
		doubt string
	}{
		{"backoff", func(r *rig) { r.fail("s", "i", 1) }, "a", ""},
		{"recovery", func(r *rig) { r.enter("i") }, "!", "b"},
		{"whole application", func(r *rig) { r.enterAll("all"); r.send("i", "late") }, "!", "b"},
		{"owner lost", func(r *rig) { r.expire("s"); r.own("i", "s2") }, "!", "b"},
		{"in good order", func(r *rig) { r.ok(closeCommand("s")); r.own("i", "s2") }, "a", ""},
		{"skip", func(r *rig) { r.skip("i", 2) }, "a", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, backoff(time.Minute, time.Minute))
			r.send("i", "a", "b", "c")
			r.bury("i", 1)
			r.own("i", "s")
			r.putBack("i", true, 1)
			c.ends(r)
			if got := r.lane("i"); !strings.HasPrefix(got, "a ") {
				t.Fatal(got)
			}
			r.wantOuts("i", c.outs)
			if got := r.doubts("i"); got != c.doubt {
				t.Fatalf("in doubt: want %q, got %q", c.doubt, got)
			}
		})
	}
}

// TestPutBackIsNotInDoubt: what was put back during a recovery stands among what is in doubt, and is not.
func TestPutBackIsNotInDoubt(t *testing.T) {
	t.Parallel()
	r := setup(t, window(3))
	r.send("i", "a", "b", "c", "d")
	r.own("i", "s")
	r.bury("i", 2)
	r.enter("i") // a, c and d are out
	r.putBack("i", false, 2)
	if got := r.doubts("i"); got != "a c d" {
		t.Fatal(got)
	}
	var told []uint64
	for _, d := range r.announcement("i").Recovery.InDoubt {
		told = append(told, d.Seq)
	}
	if !slices.Equal(told, []uint64{1, 3, 4}) {
		t.Fatal(told)
	}
	r.complete("i", 3)
	r.wantSettled("i", "a", kindCompleted)
	r.wantSettled("i", "c", kindCompleted)
	r.wantLane("i", "b d")
	r.work("s", "i", "b", "d")
	// In the next recovery it is in doubt as any other.
	r.send("i", "e")
	r.bury("i", 5)
	r.putBack("i", false, 5)
	r.enter("i")
	if got := r.doubts("i"); got != "e" {
		t.Fatal(got)
	}
}

func TestPutBackOfRecoveryLane(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.sendRecovery("i", "r1")
	r.sendRecovery("i", "r2")
	r.own("i", "s")
	d := r.head("i")
	r.finish("s", d, outRejected)
	q := &sluicev1.PutBackRequest{Instance: "i", Lane: laneRecovery, Seqs: []uint64{1}}
	e := r.instance("i").Epoch
	if res := r.ok(putBackCommand(q)).GetPutBack().Results[0]; res.Error != nil || res.Waiting {
		t.Fatal(res)
	}
	// The handler that was at work is fenced off; the next one sees both, the one that was out marked as in doubt.
	grew(t, "put back", e, r.instance("i").Epoch)
	r.wantOuts("i", "! r1")
	if got := r.doubts("i"); got != "r2" {
		t.Fatal(got)
	}
	r.work("s", "i", "r1", "r2")
	r.complete("i", 0)
	r.refused("NOT_IN_RECOVERY", putBackCommand(q))
}

// TestWhatWasPutBackAndNeverOutIsNotInDoubt: a recovery message that was out, given up and put back is in doubt again
// only at an entry at which it was out again.
func TestWhatWasPutBackAndNeverOutIsNotInDoubt(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.sendRecovery("i", "r1")
	r.own("i", "s")
	r.enter("i")
	if got := r.doubts("i"); got != "r1" {
		t.Fatal(got)
	}
	r.finish("s", r.head("i"), outRejected)
	r.ok(closeCommand("s"))
	r.ok(putBackCommand(&sluicev1.PutBackRequest{Instance: "i", Lane: laneRecovery, Seqs: []uint64{1}}))
	r.enter("i")
	r.own("i", "t")
	if got := r.doubts("i"); got != "" {
		t.Fatalf("nobody had it since it was put back, and in doubt is %q", got)
	}
	r.enter("i")
	if got := r.doubts("i"); got != "r1" {
		t.Fatalf("it was out, and in doubt is %q", got)
	}
}

// TestPutBackStaysInTheApplicationsRecovery: entered again for what was put back, an instance is still completed with
// its application.
func TestPutBackStaysInTheApplicationsRecovery(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "m")
	r.enterAll("fire")
	r.sendRecovery("i", "r1")
	r.own("i", "s")
	r.finish("s", r.head("i"), outRejected)
	r.ok(putBackCommand(&sluicev1.PutBackRequest{Instance: "i", Lane: laneRecovery, Seqs: []uint64{2}}))
	r.work("s", "i", "r1")
	r.completeWhole(1, 0)
	r.wantMode("i", normal)
}

func TestPutBackByFingerprint(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "a", "b", "c", "d")
	r.own("i", "s")
	for _, text := range []string{"no stock of 17", "no stock of 4", "broken"} {
		s := taking(r.head("i"), outRejected)
		s.ErrorText = text
		if v := r.settle("s", s); v != "" {
			t.Fatal(v)
		}
	}
	r.ok(closeCommand("s"))
	print := r.deadLetters("i")[0].DeadLetter.Fingerprint
	q := &sluicev1.PutBackRequest{Instance: "i", Fingerprint: print, RequestId: "q"}
	one := r.ok(putBackCommand(q)).GetPutBack()
	if len(one.Results) != 2 || one.Results[0].Seq != 1 || one.Results[1].Seq != 2 || one.More || one.Duplicate {
		t.Fatal(one)
	}
	two := r.ok(putBackCommand(q)).GetPutBack()
	if two.Duplicate = false; !proto.Equal(one, two) {
		t.Fatal(two)
	}
	r.wantLane("i", "a b d")
}

func TestPutBackErrors(t *testing.T) {
	t.Parallel()
	r := setup(t, limits(&sluicev1.Limits{MaxInboxMessages: number(2)}), dedup(time.Minute))
	r.send("i", "a", "b")
	r.bury("i", 1)
	q := func(q *sluicev1.PutBackRequest) *logv1.Command { q.Instance = "i"; return putBackCommand(q) }
	r.refused("UNKNOWN_INSTANCE", putBackCommand(&sluicev1.PutBackRequest{Instance: "none", Seqs: []uint64{1}}))
	r.refused("BAD_FIELD", q(&sluicev1.PutBackRequest{}))
	r.refused("BAD_FIELD", q(&sluicev1.PutBackRequest{Seqs: []uint64{1}, Fingerprint: "f"}))
	r.refused("BAD_FIELD", q(&sluicev1.PutBackRequest{Seqs: make([]uint64, 1025)}))
	r.refused("BAD_FIELD", q(&sluicev1.PutBackRequest{Seqs: []uint64{1}, Lane: laneOutgoing}))
	one := func(want string, seq uint64) {
		t.Helper()
		if res := r.ok(q(&sluicev1.PutBackRequest{Seqs: []uint64{seq}})).GetPutBack().Results[0]; res.Error.GetReason() != want {
			t.Fatal(res)
		}
	}
	one("UNKNOWN_MESSAGE", 2)
	r.send("i", "c")
	one("LIMIT_INBOX_MESSAGES", 1)
	r.skip("i", 2)
	r.skip("i", 3)
	// The id was forgotten and is another message's now.
	r.advance(3 * time.Minute)
	if again := r.send("i", "a"); again.Duplicate {
		t.Fatal(again)
	}
	one("ID_REUSED", 1)
	r.skip("i", 4)
	one("ID_REUSED", 1)
	r.advance(3 * time.Minute)
	one("", 1)
	r.wantLane("i", "a")
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	r.refused("TERMINATED", q(&sluicev1.PutBackRequest{Seqs: []uint64{1}}))
}

// TestPutBackWaitsNoMore: what cannot be put back when its time has come stays a dead letter, and an event says why.
func TestPutBackWaitsNoMore(t *testing.T) {
	t.Parallel()
	r := setup(t, limits(&sluicev1.Limits{MaxInboxMessages: number(2)}))
	r.send("i", "a", "b")
	r.bury("i", 1)
	r.own("i", "s")
	r.putBack("i", true, 1)
	r.send("i", "c")
	r.work("s", "i", "b")
	r.wantLane("i", "a c")
	r.bury("i", 1)
	r.send("i", "d")
	r.finish("s", r.head("i"), outCompleted)
	r.putBack("i", true, 1)
	r.send("i", "e")
	r.enter("i")
	r.wantLane("i", "d e")
	if dead := r.deadLetters("i"); len(dead) != 1 || dead[0].Message.Id != "a" {
		t.Fatal(dead)
	}
	page, err := r.m.View().Events(fsm.EventPlace{}, 1000, fsm.EventFilter{})
	if err != nil {
		t.Fatal(err)
	}
	if e := page.Events[len(page.Events)-1]; !strings.HasPrefix(e.Detail, "not put back: [LIMIT_INBOX_MESSAGES]") {
		t.Fatal(page.Events)
	}
}

func TestPutBackOfExpired(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.put(&sluicev1.Message{Application: "app", Instance: "i", Id: "a", Type: "step", ExpireTime: r.at(time.Minute)})
	r.put(&sluicev1.Message{Application: "app", Instance: "i", Id: "b", Type: "step", ExpireTime: r.at(time.Hour)})
	r.bury("i", 2)
	r.advance(2 * time.Minute)
	if st := r.wantSettled("i", "a", kindExpired); !strings.HasPrefix(st.DeadLetter.Reason, "EXPIRED: ") {
		t.Fatal(st)
	}
	r.putBack("i", false, 1, 2)
	r.advance(30 * time.Minute)
	r.wantLane("i", "a b") // the one does not expire any more, the other will
	r.advance(time.Hour)
	r.wantLane("i", "a")
}

func TestCompareAndSet(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	r.send("i", "a")
	look := func() *sluicev1.ListedMessage { return r.messages(&sluicev1.ListMessagesRequest{Instance: "i"})[0] }
	seen := look().Version
	change := func(version, data string) *logv1.Command {
		return resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: 1, Lane: laneNormal, Action: replace, Data: []byte(data), Version: version, Reason: "typo"})
	}
	r.ok(change(seen, "one"))
	r.refused("CHANGED", change(seen, "two"))
	m := look()
	if m.Version == seen || string(m.OriginalData) != "a" || string(m.Message.Data) != "one" || len(m.Edits) != 1 || m.Edits[0].Action != "replaced" || m.Edits[0].Reason != "typo" {
		t.Fatal(m)
	}
	for range 20 {
		v := look().Version
		r.ok(change(v, "same"))
		if look().Version == v {
			r.tick(time.Millisecond) // the same edit at the same moment is the same to who looks
		}
	}
	if m := look(); len(m.Edits) != 16 || string(m.OriginalData) != "a" {
		t.Fatal(m)
	}
	// A failed attempt changes what was seen.
	r.complete("i", 0)
	r.own("i", "s")
	seen = look().Version
	r.fail("s", "i", 1)
	r.refused("CHANGED", change(seen, "late"))
}

// TestPutBackBeginsASeriesOfAttempts: the attempts of the head before which it comes are not its own.
func TestPutBackBeginsASeriesOfAttempts(t *testing.T) {
	t.Parallel()
	r := setup(t, backoff(time.Minute, time.Minute))
	r.send("i", "a", "b", "c")
	r.bury("i", 2)
	r.own("i", "s")
	r.work("s", "i", "a")
	r.fail("s", "i", 1)
	r.putBack("i", false, 2)
	if d := r.head("i"); d.Seq != 2 || d.Attempt != 1 {
		t.Fatal(d)
	}
	r.work("s", "i", "b", "c")
}

// What waits to be put back is back, and counted, once the whole application has entered recovery, whether anybody has
// touched the instance since or not.
func TestPutBackIsCountedWhenTheApplicationEnters(t *testing.T) {
	t.Parallel()
	r := setup(t, window(2))
	r.enter("i")
	r.send("i", "a", "b", "c", "d", "e")
	r.bury("i", 1, 2, 4)
	r.complete("i", 0)
	r.own("i", "s")
	r.wantOuts("i", "c e")
	r.putBack("i", true, 4, 2)
	r.enterAll("fire")
	before := r.instance("i")
	r.sendRecovery("i", "r1") // touches it
	after := r.instance("i")
	if before.DeferredMessages != 4 || before.OldestDeferredTime == nil {
		t.Fatal(before)
	}
	after.RecoveryMessages, after.InFlight, after.NextSeq = 0, 0, before.NextSeq
	if !proto.Equal(before, after) {
		t.Fatalf("read before it was touched:\n%v\nand after:\n%v", before, after)
	}
}
