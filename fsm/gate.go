package fsm

import (
	logv1 "sluice/api/log/v1"
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
	switch messages := r.Normal.Messages + r.Recovery.Messages; {
	case exceeds(s.messageBytes, 0, size):
		return tooLarge(s, size)
	case exceeds(s.inboxMessages, messages, 1):
		return reason.LimitInboxMessages.Errorf("the inbox of %s holds %d messages; max_inbox_messages is %d", i.id(), messages, s.inboxMessages)
	case d == deferred && exceeds(s.deferredMessages, r.DeferredMessages, 1):
		return reason.LimitDeferredMessages.Errorf("%s holds %d deferred messages; max_deferred_messages is %d", i.id(), r.DeferredMessages, s.deferredMessages)
	}
	return withinBytes(i, d, size)
}

// withinReplaced refuses data that would take the place of a message's, and go over a limit with what it has more.
func withinReplaced(i *instance, m *logv1.MessageRecord, size uint64) error {
	switch s := &i.app.settings; {
	case exceeds(s.messageBytes, 0, size):
		return tooLarge(s, size)
	case size <= m.Bytes:
		return nil
	}
	return withinBytes(i, m.Disposition, size-m.Bytes)
}

// withinBytes refuses what would go over a limit of bytes that are held.
func withinBytes(i *instance, d sluicev1.Disposition, more uint64) error {
	s, r := &i.app.settings, i.rec
	switch bytes := r.Normal.Bytes + r.Recovery.Bytes; {
	case exceeds(s.inboxBytes, bytes, more):
		return reason.LimitInboxBytes.Errorf("the inbox of %s holds %d bytes, and %d more would go over max_inbox_bytes, which is %d", i.id(), bytes, more, s.inboxBytes)
	case d != deferred:
		return nil
	case exceeds(s.deferredBytes, r.DeferredBytes, more):
		return reason.LimitDeferredBytes.Errorf("%s holds %d deferred bytes, and %d more would go over max_deferred_bytes, which is %d", i.id(), r.DeferredBytes, more, s.deferredBytes)
	case exceeds(s.applicationBytes, i.app.counts.deferredBytes, more):
		return reason.LimitApplicationBytes.Errorf("application %s holds %d deferred bytes, and %d more would go over max_application_deferred_bytes, which is %d", i.app.name(), i.app.counts.deferredBytes, more, s.applicationBytes)
	}
	return nil
}

// exceeds tells that something more would go over a limit; 0: there is none.
func exceeds(limit, have, more uint64) bool { return limit > 0 && have+more > limit }

func tooLarge(s *settings, size uint64) error {
	return reason.LimitMessageBytes.Errorf("data has %d bytes; max_message_bytes is %d", size, s.messageBytes)
}
