//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
	"sluice/queue"
)

const (
	// fewInstances is what the entry of many instances is compared with.
	fewInstances = 1000
	// bornBatch is how many instances one entry makes, stepBatch how many one step completes, as the leader has it.
	bornBatch, stepBatch = 1000, 256
	// enterTimes is how often an application enters recovery as a whole; the median is taken.
	enterTimes = 201
)

// replica is a state machine over a store on disk, as a node has it, fed without raft.
type replica struct {
	store queue.Store
	m     *fsm.Machine
	index uint64
	count int
	// entries and steps are what single entries took: into recovery, and of the completion.
	entries, steps []time.Duration
	total          time.Duration
}

// recovery measures the entry of a whole application into recovery, by the number of its instances, and the
// completion for each instance. The two applications enter in turns.
func (s *settings) recovery(ctx context.Context) (err error) {
	var all []*replica
	for _, count := range []int{fewInstances, s.held} {
		r, err := openReplica(filepath.Join(s.dir, fmt.Sprint("recovery-", count)), count)
		if err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, r.store.Close(), os.RemoveAll(filepath.Join(s.dir, fmt.Sprint("recovery-", count))))
		}()
		if err := r.populate(ctx); err != nil {
			return err
		}
		all = append(all, r)
	}
	for range enterTimes {
		for _, r := range all {
			if err := r.enter(); err != nil {
				return err
			}
		}
	}
	for _, r := range all {
		if err := r.complete(ctx); err != nil {
			return err
		}
	}
	printRecovery(all)
	return nil
}

func openReplica(dir string, count int) (*replica, error) {
	store, err := queue.OpenPebble(dir, queue.PebbleConfig{Logger: quiet})
	if err != nil {
		return nil, err
	}
	m, err := fsm.Open(store, fsm.Options{})
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return &replica{store: store, m: m, count: count}, nil
}

// apply applies one entry, and tells how long that took.
func (r *replica) apply(cs ...*logv1.Command) (*logv1.Outcome, time.Duration, error) {
	r.index++
	data, err := proto.Marshal(&logv1.Entry{TimeMs: time.Now().UnixMilli(), Commands: cs})
	if err != nil {
		return nil, 0, err
	}
	began := time.Now()
	res, _, err := r.m.Apply([]fsm.Entry{{Index: r.index, Term: 1, Data: data}})
	took := time.Since(began)
	if err != nil {
		return nil, took, err
	}
	last := res[0].Outcomes[len(cs)-1]
	if f := last.GetFault(); f != nil {
		return nil, took, fmt.Errorf("%s: %s", f.Reason, f.Message)
	}
	return last, took, nil
}

// populate makes the instances, each with one message.
func (r *replica) populate(ctx context.Context) error {
	if _, _, err := r.apply(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: application}}}); err != nil {
		return err
	}
	for at := 0; at < r.count && ctx.Err() == nil; at += bornBatch {
		send := &logv1.Send{}
		for n := at; n < min(at+bornBatch, r.count); n++ {
			send.Messages = append(send.Messages, &sluicev1.Message{Application: application, Instance: fmt.Sprintf("i%07d", n), Id: "m", Type: "step"})
		}
		if _, _, err := r.apply(&logv1.Command{Kind: &logv1.Command_Send{Send: send}}); err != nil {
			return err
		}
	}
	return errors.Join(ctx.Err(), r.store.Flush())
}

func (r *replica) enter() error {
	out, took, err := r.apply(&logv1.Command{Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: &sluicev1.EnterApplicationRecoveryRequest{Application: application, Cause: "bench"}}})
	if err != nil {
		return err
	}
	if got := out.GetApplication().GetCounts().GetRecovery(); got != uint64(r.count) {
		return fmt.Errorf("%d of %d instances are in recovery", got, r.count)
	}
	r.entries = append(r.entries, took)
	return nil
}

// complete brings all of them back, step by step.
func (r *replica) complete(ctx context.Context) error {
	out, _, err := r.apply(&logv1.Command{Kind: &logv1.Command_CompleteApplicationRecovery{CompleteApplicationRecovery: &sluicev1.CompleteApplicationRecoveryRequest{Application: application}}})
	if err != nil {
		return err
	}
	id, began := out.GetOperation().GetId(), time.Now()
	for more := true; more && ctx.Err() == nil; {
		out, took, err := r.apply(&logv1.Command{Kind: &logv1.Command_StepOperation{StepOperation: &logv1.StepOperation{Id: id, Limit: stepBatch}}})
		if err != nil {
			return err
		}
		r.steps, more = append(r.steps, took), out.GetProgress().GetMore()
	}
	r.total = time.Since(began)
	op, err := r.m.View().Operation(id)
	if err == nil && op.GetDone() != uint64(r.count) {
		err = fmt.Errorf("%d of %d instances were completed", op.GetDone(), r.count)
	}
	return errors.Join(ctx.Err(), err)
}

func printRecovery(all []*replica) {
	fmt.Print("\n| instances | entry into recovery, median | p99 | completion of an instance | longest step |\n| ---: | ---: | ---: | ---: | ---: |\n")
	var medians []time.Duration
	for _, r := range all {
		slices.Sort(r.entries)
		slices.Sort(r.steps)
		middle := r.entries[len(r.entries)/2]
		medians = append(medians, middle)
		fmt.Printf("| %d | %v | %v | %v | %v |\n", r.count, middle, r.entries[len(r.entries)*99/100],
			(r.total / time.Duration(r.count)).Round(10*time.Nanosecond), r.steps[len(r.steps)-1].Round(10*time.Microsecond))
	}
	fmt.Printf("\nThe entry of %d instances takes %.2f times that of %d.\n", all[1].count, float64(medians[1])/float64(medians[0]), all[0].count)
}
