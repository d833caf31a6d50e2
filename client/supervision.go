package client

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

// Supervision says when to raise the alarm, and when many failures are an outage and not poison.
type Supervision struct {
	// HeldAfter is how long a recovery may last before it is told of by an event (TypeHeldTooLong), and again after
	// each further such time. Default 10 min, 1 s to 30 days; NoLimit: never.
	HeldAfter time.Duration
	// OutageInstances: so many instances whose messages fail alike within OutageWindow are an outage, and the
	// application enters recovery as a whole. 2 to 1,000,000; default 100; NoLimit: never.
	OutageInstances int
	// OutageWindow is 1 s to 1 h; default 60 s.
	OutageWindow time.Duration
}

func (s *Supervision) proto() *sluicev1.Supervision {
	if *s == (Supervision{}) {
		return nil
	}
	out := &sluicev1.Supervision{
		HeldAfter: duration(s.HeldAfter), OutageInstances: optional[uint32](s.OutageInstances), OutageWindow: duration(s.OutageWindow),
	}
	if s.HeldAfter == NoLimit {
		out.HeldAfter = &durationpb.Duration{}
	}
	return out
}

func supervisionOf(s *sluicev1.Supervision) Supervision {
	if s == nil {
		return Supervision{}
	}
	out := Supervision{HeldAfter: s.GetHeldAfter().AsDuration(), OutageInstances: limit[int](s.OutageInstances), OutageWindow: s.GetOutageWindow().AsDuration()}
	if s.HeldAfter != nil && out.HeldAfter == 0 {
		out.HeldAfter = NoLimit
	}
	return out
}
