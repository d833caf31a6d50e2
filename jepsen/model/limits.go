package model

import (
	"slices"

	"sluice/api/reason"
)

// within refuses what would go over a limit; told is the cluster's own refusal, which names one of those.
func (i *Instance) within(disposition string, size uint64, told reason.Reason) reason.Reason {
	limits := i.app.limits
	if passes(limits.message, size) {
		return reason.LimitMessageBytes
	}
	var over []reason.Reason
	if passes(limits.inboxMessages, uint64(len(i.Lanes[normalLane].Messages)+len(i.Lanes[recoveryLane].Messages)+1)) {
		over = append(over, reason.LimitInboxMessages)
	}
	if disposition == "deferred" && passes(limits.deferredMessages, uint64(i.deferred()+1)) {
		over = append(over, reason.LimitDeferredMessages)
	}
	return oneOf(append(over, i.overBytes(disposition, size)...), told)
}

// overBytes are the limits of bytes that so many more would go over.
func (i *Instance) overBytes(disposition string, more uint64) (over []reason.Reason) {
	limits := i.app.limits
	if passes(limits.inboxBytes, i.bytes(func(*Life) bool { return true })+more) {
		over = append(over, reason.LimitInboxBytes)
	}
	if disposition != "deferred" {
		return over
	}
	deferred := i.deferredBytes()
	if passes(limits.deferredBytes, deferred+more) {
		over = append(over, reason.LimitDeferredBytes)
	}
	if limits.applicationBytes > 0 {
		all := uint64(0)
		for other := range i.app.instances {
			all += other.deferredBytes()
		}
		if passes(limits.applicationBytes, all+more) {
			over = append(over, reason.LimitApplicationBytes)
		}
	}
	return over
}

func (i *Instance) deferredBytes() uint64 {
	return i.bytes(func(l *Life) bool { return l.Disposition == "deferred" })
}

// bytes are those of the unsettled messages that fit.
func (i *Instance) bytes(fits func(*Life) bool) (sum uint64) {
	for _, lane := range i.Lanes {
		for _, l := range lane.Messages {
			if fits(l) {
				sum += uint64(len(l.Data))
			}
		}
	}
	return sum
}

// passes tells that something is over a limit; 0: there is none.
func passes(limit, something uint64) bool { return limit > 0 && something > limit }

// oneOf is the reason that the cluster told, if it is among those that hold; else the first of them; none: "".
func oneOf(reasons []reason.Reason, told reason.Reason) reason.Reason {
	switch {
	case len(reasons) == 0:
		return ""
	case slices.Contains(reasons, told):
		return told
	}
	return reasons[0]
}
