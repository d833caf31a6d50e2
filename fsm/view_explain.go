package fsm

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

// explaining is an Explanation in the making, and what is not part of it but decides what holds the instance.
type explaining struct {
	*sluicev1.Explanation
	i    *instance
	rec  *logv1.InstanceRecord // of i
	now  int64
	last uint64 // the last message of the normal lane that is in doubt
	out  bool   // the head is with the owner
}

// Explain tells what holds an instance, the first to be seen to first, as of the last committed state. An instance that
// is behind its application's generation is shown as if it had caught up. Whether it is quiesced is the leader's to say.
func (v *View) Explain(id InstanceID, quiesced bool) (out *sluicev1.Explanation, err error) {
	r := v.begin()
	defer r.end(&err)
	i, err := r.instance(id)
	if err != nil {
		return nil, err
	}
	shown, err := r.show(i)
	if err != nil {
		return nil, err
	}
	shown.Quiesced = quiesced && i.rec.Mode == recoveryMode
	meta, err := r.moment()
	if err != nil {
		return nil, err
	}
	rec := i.rec
	e := &explaining{i: i, rec: rec, now: meta.ClockMs, Explanation: &sluicev1.Explanation{
		Instance: shown, Actor: rec.ModeActor, RecoveryAttempts: rec.RecoveryAttempts, DeadLetters: rec.DeadLetters,
	}}
	if rec.UntilMs != 0 {
		e.Until = timestamp(rec.UntilMs)
	}
	if err := errors.Join(r.explainHead(i, e), r.explainDoubt(i, e), r.explainSessions(e)); err != nil {
		return nil, err
	}
	e.Holds = e.holds()
	return e.Explanation, nil
}

// explainHead adds the first unsettled message of the lane that the mode offers, and the last error of the recovery.
func (r *reading) explainHead(i *instance, e *explaining) error {
	f, err := failureOf(r, i.rec, &logv1.MessageRecord{Lane: recoveryLane})
	if err != nil {
		return err
	}
	e.RecoveryError = f.GetLastError()
	page := &sluicev1.ListMessagesResponse{}
	if err := r.list(i, i.working(), false, 0, 1, page); err != nil || len(page.Messages) == 0 {
		return err
	}
	e.Head = page.Messages[0]
	e.out = e.Head.Status == sluicev1.Status_MESSAGE_STATUS_IN_FLIGHT
	return nil
}

// explainDoubt counts what is in doubt in the normal lane: at most as many as a window holds.
func (r *reading) explainDoubt(i *instance, e *explaining) error {
	if i.rec.Mode != recoveryMode || i.rec.NormalDoubt == 0 {
		return nil
	}
	return queue.Messages(r, i.rec.Uid, normalLane, i.rec.Normal.Front, func(m *logv1.MessageRecord) bool {
		if i.doubtful(m) {
			e.InDoubtMessages++
			e.last = m.Seq
		}
		return m.Seq < i.rec.NormalDoubt
	})
}

// explainSessions counts the live sessions of the application, and names the owner.
func (r *reading) explainSessions(e *explaining) error {
	return scan(r, []byte{tableSession}, func(_, b []byte) error {
		s := &logv1.SessionRecord{}
		if err := proto.Unmarshal(b, s); err != nil {
			return err
		}
		if s.Application != e.rec.Application {
			return nil
		}
		e.Sessions++
		if s.Owned < s.Capacity {
			e.SessionsWithRoom++
		}
		if s.Id == e.rec.Owner {
			e.OwnerName = s.Name
		}
		return nil
	})
}

// holds lists what holds the instance. First comes what keeps all that follows from being done: nobody is there to do
// it; then what must be decided, what waits for a time, what is at work, and the mode itself.
func (e *explaining) holds() (all []*sluicev1.Hold) {
	if e.rec.Terminated {
		return []*sluicev1.Hold{e.terminated()}
	}
	for _, h := range []*sluicev1.Hold{e.nobody(), e.doubt(), e.pending(), e.backoff(), e.inFlight(), e.recovery(), e.draining()} {
		if h != nil {
			all = append(all, h)
		}
	}
	return all
}

func (e *explaining) terminated() *sluicev1.Hold {
	return &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_TERMINATED, Text: "it was terminated: " + orNone(e.rec.TerminateReason),
		Release: "nothing; its name is free again after the deduplication window", Until: timestamp(e.rec.TerminatedTimeMs + e.i.app.settings.dedupWindow),
	}
}

// nobody tells that there is something to handle and no owner.
func (e *explaining) nobody() *sluicev1.Hold {
	waiting := e.rec.Normal.Messages + e.rec.Recovery.Messages
	switch {
	case e.rec.Owner != "" || waiting == 0:
		return nil
	case e.Sessions == 0:
		return &sluicev1.Hold{
			Kind:    sluicev1.HoldKind_HOLD_NO_WORKER,
			Text:    fmt.Sprintf("no worker of application %s is connected; %s", e.rec.Application, many(waiting, "message waits", "messages wait")),
			Release: "start a worker of application " + e.rec.Application,
		}
	case e.i.waits():
		return nil // for its backoff first
	case e.SessionsWithRoom > 0:
		return &sluicev1.Hold{
			Kind:    sluicev1.HoldKind_HOLD_NO_CAPACITY,
			Text:    fmt.Sprintf("it waits for an owner: of %s %d could own more instances, and none has asked for work yet", many(uint64(e.Sessions), "worker", "workers"), e.SessionsWithRoom),
			Release: "a worker that has finished something asks for more; see sluice cluster status, or start another worker",
		}
	}
	return &sluicev1.Hold{
		Kind:    sluicev1.HoldKind_HOLD_NO_CAPACITY,
		Text:    fmt.Sprintf("it waits for an owner: %s of application %s, and none may own more instances", many(uint64(e.Sessions), "worker", "workers"), e.rec.Application),
		Release: "an instance of theirs that comes to rest makes room; or start another worker, or one with a greater capacity",
	}
}

func (e *explaining) doubt() *sluicev1.Hold {
	if e.InDoubtMessages == 0 {
		return nil
	}
	return &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_IN_DOUBT,
		Text: fmt.Sprintf("%s in doubt, up to seq %d: the handler may or may not have taken effect", many(e.InDoubtMessages, "message is", "messages are"), e.last),
		Release: fmt.Sprintf("a recovery handler says up to where they took effect; or an operator: sluice instance complete %s --processed-through %d (all of them), or 0 (none)",
			e.target(), e.last),
	}
}

func (e *explaining) pending() *sluicev1.Hold {
	n := e.rec.Recovery.Messages
	if e.rec.Mode != recoveryMode || n == 0 {
		return nil
	}
	return &sluicev1.Hold{
		Kind:    sluicev1.HoldKind_HOLD_RECOVERY_MESSAGES,
		Text:    many(n, "recovery message is unsettled", "recovery messages are unsettled"),
		Release: fmt.Sprintf("a recovery handler settles them; or an operator: sluice instance complete %s --discard-recovery-messages", e.target()),
	}
}

func (e *explaining) backoff() *sluicev1.Hold {
	l := e.i.lane(e.i.working())
	switch {
	case e.rec.Mode == recoveryMode && e.rec.RecoveryWaitMs != 0:
		return &sluicev1.Hold{
			Kind: sluicev1.HoldKind_HOLD_BACKOFF, Text: fmt.Sprintf("its recovery handler failed %s: %s", many(uint64(e.RecoveryAttempts), "time", "times"), orNone(e.RecoveryError)),
			Release: "the end of the backoff: the recovery is delivered again then", Until: timestamp(e.rec.RecoveryWaitMs),
		}
	case l.HeadWaitMs != 0:
		return &sluicev1.Hold{
			Kind: sluicev1.HoldKind_HOLD_BACKOFF, Text: fmt.Sprintf("%s failed %s: %s", e.head(), e.ofMost(), orNone(e.Head.GetLastError())),
			Release: fmt.Sprintf("the end of the backoff: it is tried again then; or an operator: sluice instance resolve %s --lane %s --seq %d --action skip",
				e.target(), laneName(e.Head.GetLane()), e.Head.GetSeq()),
			Until: timestamp(l.HeadWaitMs),
		}
	}
	return nil
}

// ofMost says how many attempts failed, and after how many something else follows.
func (e *explaining) ofMost() string {
	n := e.i.lane(e.Head.GetLane()).HeadAttempts
	if most := e.i.app.settings.maxAttempts; most != 0 {
		return fmt.Sprintf("%d of %d times", n, most)
	}
	return many(uint64(n), "time", "times")
}

func (e *explaining) inFlight() *sluicev1.Hold {
	if !e.out {
		return nil
	}
	return &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_IN_FLIGHT, Text: fmt.Sprintf("%s is with worker %s", e.head(), e.owner()),
		Release: "the handler's answer; if the worker dies, the end of its lease",
	}
}

func (e *explaining) recovery() *sluicev1.Hold {
	if e.rec.Mode != recoveryMode {
		return nil
	}
	h := &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_RECOVERY, Text: fmt.Sprintf("it is in recovery: %s (by %s)", orNone(e.rec.Cause), orNone(e.rec.ModeActor)),
		Release: "sluice instance complete " + e.target(),
	}
	if e.rec.RecoveryGeneration != 0 {
		h.Kind, h.Text = sluicev1.HoldKind_HOLD_APPLICATION_RECOVERY, fmt.Sprintf("application %s is in recovery as a whole: %s (by %s)", e.rec.Application, orNone(e.rec.Cause), orNone(e.rec.ModeActor))
		h.Release = fmt.Sprintf("sluice app complete %s; or for this instance alone: sluice instance complete %s", e.rec.Application, e.target())
	}
	switch {
	case e.rec.Owner != "" && e.Instance.Quiesced:
		h.Release = fmt.Sprintf("the recovery handler of worker %s, which has the recovery; or %s", e.owner(), h.Release)
	case e.rec.Owner != "":
		h.Release = fmt.Sprintf("the recovery handler of worker %s, which is not known to have taken the recovery yet; or %s", e.owner(), h.Release)
	}
	if e.rec.UntilMs > e.now && e.InDoubtMessages == 0 && e.rec.Recovery.Messages == 0 {
		h.Until = timestamp(e.rec.UntilMs)
	}
	return h
}

func (e *explaining) draining() *sluicev1.Hold {
	if e.rec.Mode != drainingMode {
		return nil
	}
	return &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_DRAINING, Text: fmt.Sprintf("it drains what was held: %s to go, up to seq %d", many(e.rec.DeferredMessages, "deferred message", "deferred messages"), e.rec.DrainMark),
		Release: "a worker handles them, in order; what arrives meanwhile waits behind them",
	}
}

// head names the head of the lane that the mode offers.
func (e *explaining) head() string {
	return fmt.Sprintf("seq %d (%s, %s)", e.Head.GetSeq(), e.Head.GetMessage().GetType(), e.Head.GetMessage().GetId())
}

func (e *explaining) owner() string {
	if e.OwnerName == "" {
		return "session " + e.rec.Owner
	}
	return e.OwnerName
}

// target is the instance as an argument of the command line.
func (e *explaining) target() string {
	at := InstanceID{e.rec.Application, e.rec.Key}.String()
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/._:@%+,=-", c)
	}
	if strings.ContainsFunc(at, func(c rune) bool { return !plain(c) }) {
		return "'" + strings.ReplaceAll(at, "'", `'\''`) + "'"
	}
	return at
}

func laneName(l sluicev1.Lane) string {
	if l == recoveryLane {
		return "recovery"
	}
	return "normal"
}

func many(n uint64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

func orNone(text string) string {
	if text == "" {
		return "no reason given"
	}
	return text
}
