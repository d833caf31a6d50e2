package fsm

import (
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	accepted = sluicev1.Disposition_DISPOSITION_ACCEPTED
	deferred = sluicev1.Disposition_DISPOSITION_DEFERRED
	recovery = sluicev1.Disposition_DISPOSITION_RECOVERY
)

// gate is the table that Sluice is about: what becomes of a message of a class at an instance in a mode.
//
//	class    | normal  | recovery             | draining
//	normal   | accept  | defer                | defer, behind the backlog
//	recovery | refuse  | accept, recovery lane| refuse
//	both     | as normal | as recovery        | as normal
func gate(c class, m sluicev1.Mode) (sluicev1.Disposition, error) {
	if m == recoveryMode {
		if c == classNormal {
			return deferred, nil
		}
		return recovery, nil
	}
	switch {
	case c == classRecovery:
		return 0, reason.NotSuitable.Errorf("a recovery message is not suitable in %s mode; it is taken in recovery only", modeName(m))
	case m == drainingMode:
		return deferred, nil
	default:
		return accepted, nil
	}
}

func laneOf(d sluicev1.Disposition) sluicev1.Lane {
	if d == recovery {
		return recoveryLane
	}
	return normalLane
}

func modeName(m sluicev1.Mode) string {
	switch m {
	case recoveryMode:
		return "recovery"
	case drainingMode:
		return "draining"
	default:
		return "normal"
	}
}

// within refuses a message that would go over a limit. Nothing accepted is ever dropped to make room.
func within(i *instance, d sluicev1.Disposition, size uint64) error {
	s, r := &i.app.settings, i.rec
	over := func(limit, have, more uint64) bool { return limit > 0 && have+more > limit }
	messages, bytes := r.Normal.Messages+r.Recovery.Messages, r.Normal.Bytes+r.Recovery.Bytes
	switch {
	case over(s.messageBytes, 0, size):
		return reason.LimitMessageBytes.Errorf("data has %d bytes; max_message_bytes is %d", size, s.messageBytes)
	case over(s.inboxMessages, messages, 1):
		return reason.LimitInboxMessages.Errorf("the inbox of %s holds %d messages; max_inbox_messages is %d", i.id(), messages, s.inboxMessages)
	case over(s.inboxBytes, bytes, size):
		return reason.LimitInboxBytes.Errorf("the inbox of %s holds %d bytes, and %d more would go over max_inbox_bytes, which is %d", i.id(), bytes, size, s.inboxBytes)
	case d != deferred:
		return nil
	case over(s.deferredMessages, r.DeferredMessages, 1):
		return reason.LimitDeferredMessages.Errorf("%s holds %d deferred messages; max_deferred_messages is %d", i.id(), r.DeferredMessages, s.deferredMessages)
	case over(s.deferredBytes, r.DeferredBytes, size):
		return reason.LimitDeferredBytes.Errorf("%s holds %d deferred bytes, and %d more would go over max_deferred_bytes, which is %d", i.id(), r.DeferredBytes, size, s.deferredBytes)
	case over(s.applicationBytes, i.app.counts.deferredBytes, size):
		return reason.LimitApplicationBytes.Errorf("application %s holds %d deferred bytes, and %d more would go over max_application_deferred_bytes, which is %d", i.app.name(), i.app.counts.deferredBytes, size, s.applicationBytes)
	}
	return nil
}
