package client

import (
	"context"
	"errors"
	"testing"

	"sluice/api/reason"
)

func TestARemovalWhoseAnswerWasLostIsDone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		answers []reason.Reason
		want    error
	}{
		{"a lost answer, and then there is no such member", []reason.Reason{reason.OutcomeUnknown, reason.UnknownMember}, nil},
		{"a lost answer, no leader, and then there is no such member", []reason.Reason{reason.OutcomeUnknown, reason.NoLeader, reason.UnknownMember}, nil},
		{"there was none", []reason.Reason{reason.UnknownMember}, ErrUnknownMember},
		{"there was no leader, and no such member", []reason.Reason{reason.NoLeader, reason.UnknownMember}, ErrUnknownMember},
		{"a lost answer, and a refusal", []reason.Reason{reason.OutcomeUnknown, reason.BadField}, ErrBadField},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, left := newFake(t), c.answers
			f.before = func(string) error {
				next := left[0]
				left = left[1:]
				return fail(next)
			}
			if err := f.client().Cluster().Remove(context.Background(), "n2"); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if len(left) > 0 {
				t.Errorf("not asked: %v", left)
			}
		})
	}
}
