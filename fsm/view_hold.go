package fsm

import (
	"fmt"
	"strings"

	sluicev1 "sluice/api/sluice/v1"
)

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
	another := fmt.Sprintf("as with: sluice worker exec --app %s -- COMMAND", e.rec.Application)
	switch {
	case e.rec.Owner != "" || waiting == 0:
		return nil
	case e.Sessions == 0:
		return &sluicev1.Hold{
			Kind:    sluicev1.HoldKind_HOLD_NO_WORKER,
			Text:    fmt.Sprintf("no worker of application %s is connected; %s", e.rec.Application, many(waiting, "message waits", "messages wait")),
			Release: fmt.Sprintf("a worker of application %s: start one, %s", e.rec.Application, another),
		}
	case e.i.waits():
		return nil // for its backoff first
	case e.SessionsWithRoom > 0:
		return &sluicev1.Hold{
			Kind:    sluicev1.HoldKind_HOLD_NO_CAPACITY,
			Text:    fmt.Sprintf("it waits for an owner: of %s %d could own more instances, and none has asked for work yet", many(uint64(e.Sessions), "worker", "workers"), e.SessionsWithRoom),
			Release: "a worker that has finished something asks for more; or start another worker, " + another,
		}
	}
	return &sluicev1.Hold{
		Kind:    sluicev1.HoldKind_HOLD_NO_CAPACITY,
		Text:    fmt.Sprintf("it waits for an owner: %s of application %s, and none may own more instances", many(uint64(e.Sessions), "worker", "workers"), e.rec.Application),
		Release: fmt.Sprintf("an instance of theirs that comes to rest makes room; or start another worker, %s, or one with a greater capacity", another),
	}
}

func (e *explaining) doubt() *sluicev1.Hold {
	if e.InDoubtMessages == 0 {
		return nil
	}
	h := &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_IN_DOUBT,
		Text: fmt.Sprintf("%s in doubt, up to seq %d: the handler may or may not have taken effect", many(e.InDoubtMessages, "message is", "messages are"), e.last),
		Release: fmt.Sprintf("a recovery handler says up to where they took effect; or an operator: %s if all of them did, --processed-through 0 if none did: those are delivered again",
			e.complete(fmt.Sprint(e.last))),
	}
	if e.ofOutage() && e.passedOver() == "" {
		h.Release += fmt.Sprintf("; sluice app complete %s delivers them again, too: they failed as the others did", e.rec.Application)
	}
	return h
}

func (e *explaining) pending() *sluicev1.Hold {
	n := e.rec.Recovery.Messages
	if e.rec.Mode != recoveryMode || n == 0 {
		return nil
	}
	return &sluicev1.Hold{
		Kind:    sluicev1.HoldKind_HOLD_RECOVERY_MESSAGES,
		Text:    many(n, "recovery message is unsettled", "recovery messages are unsettled"),
		Release: fmt.Sprintf("a recovery handler settles them; or an operator, who dead-letters them: %s", e.complete("SEQ")),
	}
}

func (e *explaining) backoff() *sluicev1.Hold {
	l := e.i.lane(e.i.working())
	switch {
	case e.rec.Mode == recoveryMode && e.rec.RecoveryWaitMs != 0:
		return &sluicev1.Hold{
			Kind: sluicev1.HoldKind_HOLD_BACKOFF, Text: fmt.Sprintf("the recovery failed %s: %s", many(uint64(e.RecoveryAttempts), "time", "times"), orNone(e.RecoveryError)),
			Release: "the end of the backoff: the recovery is delivered again then; or an operator: " + e.complete("SEQ"), Until: timestamp(e.rec.RecoveryWaitMs),
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
		Release: "the handler's answer; if the worker dies, the end of its lease; if the handler hangs, an operator fences it off: sluice instance recover " + e.target(),
	}
}

func (e *explaining) recovery() *sluicev1.Hold {
	if e.rec.Mode != recoveryMode {
		return nil
	}
	h := &sluicev1.Hold{Kind: sluicev1.HoldKind_HOLD_RECOVERY, Text: "it is in recovery"}
	if e.rec.RecoveryGeneration != 0 {
		h.Kind, h.Text = sluicev1.HoldKind_HOLD_APPLICATION_RECOVERY, fmt.Sprintf("application %s is in recovery as a whole", e.rec.Application)
	}
	h.Text += fmt.Sprintf(": %s (by %s)", orNone(e.rec.Cause), orNone(e.rec.ModeActor))
	switch {
	case e.atWork():
		h.Text += "; its recovery handler is at work, with worker " + e.owner()
		h.Release = "that handler's completion; or an operator, who fences it off: "
	case e.rec.Owner == "" && e.rec.WorkPosition == 0 && e.rec.RecoveryWaitMs == 0:
		h.Release = "a worker's recovery handler, once it is sent something: nothing was wanted of it since; or an operator: "
	case e.rec.Owner == "" || e.rec.RecoveryWaitMs != 0:
		h.Release = "a worker's recovery handler; or an operator: "
	default:
		h.Release = fmt.Sprintf("the recovery handler of worker %s, which is not known to have taken the recovery yet; or an operator: ", e.owner())
	}
	h.Release += e.byOperator()
	if e.rec.UntilMs > e.now && e.InDoubtMessages == 0 && e.rec.Recovery.Messages == 0 {
		h.Until = timestamp(e.rec.UntilMs)
	}
	return h
}

// atWork tells that the owner has taken the present recovery, and has not failed at it.
func (e *explaining) atWork() bool {
	return e.rec.Owner != "" && e.Instance.Quiesced && e.rec.RecoveryWaitMs == 0
}

// ofOutage tells that what is in doubt is delivered again when the outage is completed.
func (e *explaining) ofOutage() bool {
	return e.InDoubtMessages > 0 && e.i.app.poisonOf(e.rec.RecoveryGeneration, e.rec)
}

// byOperator is how an operator completes the recovery: with the whole application, if that would not pass it over.
func (e *explaining) byOperator() string {
	alone, app := e.complete("SEQ"), e.rec.Application
	if e.rec.RecoveryGeneration == 0 {
		return alone
	}
	if why := e.passedOver(); why != "" {
		return fmt.Sprintf("%s (sluice app complete %s passes it over: %s)", alone, app, why)
	}
	return fmt.Sprintf("sluice app complete %s; or for this instance alone: %s", app, alone)
}

// passedOver says why the completion of the whole application would pass the instance over, or nothing.
func (e *explaining) passedOver() string {
	switch e.i.against(e.rec.RecoveryGeneration, e.InDoubtMessages > 0, e.atWork()) {
	case againstDoubt:
		return "messages are in doubt"
	case againstPending:
		return "recovery messages are unsettled"
	case againstWork:
		return "its recovery handler is at work"
	}
	return ""
}

// complete is the command that completes the recovery whatever stands against it: what is in doubt took effect up to
// through, a sequence number or the word for one.
func (e *explaining) complete(through string) string {
	command := "sluice instance complete " + e.target()
	if e.InDoubtMessages > 0 {
		command += " --processed-through " + through
	}
	if e.rec.Recovery.Messages > 0 {
		command += " --discard-recovery-messages"
	}
	return command
}

func (e *explaining) draining() *sluicev1.Hold {
	if e.rec.Mode != drainingMode {
		return nil
	}
	return &sluicev1.Hold{
		Kind: sluicev1.HoldKind_HOLD_DRAINING,
		Text: fmt.Sprintf("it drains what was held: %s unsettled; it is normal again when those up to seq %d are settled",
			many(e.rec.DeferredMessages, "deferred message is", "deferred messages are"), e.rec.DrainMark),
		Release: "a worker handles them, in order; what arrives meanwhile waits behind them; see it pass: sluice instance watch " + e.target(),
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
