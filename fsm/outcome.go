package fsm

import (
	"errors"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

// fault turns a refusal into part of an answer; any other error is trouble of this node and comes back.
func fault(err error) (*sluicev1.Fault, error) {
	var refusal *reason.Error
	if errors.As(err, &refusal) {
		return refusal.Fault(), nil
	}
	return nil, err
}

// refused is the outcome of a command that was refused.
func refused(err error) (*logv1.Outcome, error) {
	f, err := fault(err)
	if err != nil {
		return nil, err
	}
	return &logv1.Outcome{Fault: f}, nil
}

func progress(done int, more bool) (*logv1.Outcome, error) {
	return &logv1.Outcome{Result: &logv1.Outcome_Progress{Progress: &logv1.Progress{Done: uint32(done), More: more}}}, nil
}

func instanceOutcome(i *instance) (*logv1.Outcome, error) {
	return &logv1.Outcome{Result: &logv1.Outcome_Instance{Instance: i.answer()}}, nil
}

// ignore passes an error on unless it is what: then there is none.
func ignore(err, what error) error {
	if errors.Is(err, what) {
		return nil
	}
	return err
}
