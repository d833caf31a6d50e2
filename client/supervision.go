package client

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

// Supervision says when to raise the alarm.
type Supervision struct {
	// HeldAfter is how long a recovery may last before it is told of by an event (TypeHeldTooLong), and again after
	// each further such time. Default 10 min, 1 s to 30 days; NoLimit: never.
	HeldAfter time.Duration
}

func (s *Supervision) proto() *sluicev1.Supervision {
	switch {
	case *s == Supervision{}:
		return nil
	case s.HeldAfter == NoLimit:
		return &sluicev1.Supervision{HeldAfter: &durationpb.Duration{}}
	}
	return &sluicev1.Supervision{HeldAfter: duration(s.HeldAfter)}
}

func supervisionOf(s *sluicev1.Supervision) Supervision {
	switch d := s.GetHeldAfter(); {
	case d == nil:
		return Supervision{}
	case d.AsDuration() == 0:
		return Supervision{HeldAfter: NoLimit}
	default:
		return Supervision{HeldAfter: d.AsDuration()}
	}
}
