//go:build linux

package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/bench/process"
)

// fake settles each message in a goroutine of its own, unless told to lose or to repeat it.
type fake struct {
	Cluster
	job    Job
	sent   atomic.Int64
	lose   int64 // the message of this number is lost
	repeat int64 // the message of this number is settled twice
	fail   int64 // the send of this number fails
	asked  atomic.Int64
	opened atomic.Bool
	closed atomic.Bool
	work   sync.WaitGroup
}

func (f *fake) Processes() *process.Cluster { return &process.Cluster{} }

// Elections grows by two from question to question, and wants the line to be open.
func (f *fake) Elections(context.Context) (uint64, bool, error) {
	if !f.opened.Load() {
		return 0, false, errors.New("elections of what is being declared would count")
	}
	return uint64(f.asked.Add(2)), true, nil
}

func (f *fake) Open(_ context.Context, job Job) (Line, error) {
	f.job = job
	f.opened.Store(true)
	return f, nil
}

func (f *fake) Send(_ context.Context, _, _ int, data []byte) error {
	n := f.sent.Add(1)
	if n == f.fail {
		return errors.New("broken")
	}
	if n == f.lose {
		return nil
	}
	f.work.Go(func() {
		f.job.Settled(data)
		if n == f.repeat {
			f.job.Settled(data)
		}
	})
	return nil
}

func (f *fake) Close() error {
	f.closed.Store(true)
	f.work.Wait()
	return nil
}

func plans() map[string]Plan {
	closed := Plan{Senders: 4, Instances: 10, Payload: 32, Warm: 5 * time.Millisecond, Length: 40 * time.Millisecond}
	open := closed
	open.Rate = 2000
	return map[string]Plan{"closed": closed, "open": open}
}

func TestEveryJobIsCounted(t *testing.T) {
	t.Parallel()
	for name, plan := range plans() {
		f := &fake{repeat: 3}
		res, err := Measure(t.Context(), f, "job", plan)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if res.Sent != f.sent.Load() || res.Settled != res.Sent || res.Repeated != 1 {
			t.Errorf("%s: %d were sent; counted: %d sent, %d settled, %d repeated", name, f.sent.Load(), res.Sent, res.Settled, res.Repeated)
		}
		if len(res.Latencies) == 0 || int64(len(res.Latencies)) > res.Sent || slices.Min(res.Latencies) < 0 {
			t.Errorf("%s: %d latencies of %d jobs, the least %v", name, len(res.Latencies), res.Sent, slices.Min(res.Latencies))
		}
		if res.Elections == nil || *res.Elections != 2 {
			t.Errorf("%s: elections %v, want by how much they grew, 2", name, res.Elections)
		}
		if !f.closed.Load() {
			t.Errorf("%s: the line was not closed", name)
		}
	}
}

func TestALostJobFailsTheMeasurement(t *testing.T) {
	t.Parallel()
	for name, plan := range plans() {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("the test has waited enough"))
		_, err := Measure(ctx, &fake{lose: 2}, "job", plan)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "settled") && !strings.Contains(err.Error(), "enough") {
			t.Errorf("%s: a message was lost, and the measurement says %v", name, err)
		}
	}
}

func TestAFailedSendFailsTheMeasurement(t *testing.T) {
	t.Parallel()
	for name, plan := range plans() {
		if _, err := Measure(t.Context(), &fake{fail: 2}, "job", plan); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("%s: a send failed, and the measurement says %v", name, err)
		}
	}
}

func TestAPayloadHoldsAToken(t *testing.T) {
	t.Parallel()
	plan := plans()["closed"]
	plan.Payload = TokenBytes - 1
	if _, err := Measure(t.Context(), &fake{}, "job", plan); err == nil {
		t.Error("a payload without room for a token was taken")
	}
}

// In a closed loop a stall delays one job for each sender; in an open loop it must show in all that were due meanwhile.
func TestAnOpenLoopCountsFromWhenAJobWasDue(t *testing.T) {
	t.Parallel()
	plan := Plan{Senders: 1, Instances: 1, Payload: 32, Length: 100 * time.Millisecond, Rate: 1000}
	f := &stalling{until: make(chan struct{})}
	time.AfterFunc(60*time.Millisecond, func() { close(f.until) })
	res, err := Measure(t.Context(), f, "job", plan)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(res.Latencies)
	// The jobs of the first 60 ms waited between 60 and 0 ms: of 100 jobs, at least thirty waited 25 ms or more.
	if late := res.Latencies[70]; late < 25*time.Millisecond {
		t.Errorf("30 of 100 jobs should have waited for the stall, but the 70th least latency is %v", late)
	}
}

// stalling settles nothing for a while.
type stalling struct {
	fake
	until chan struct{}
}

func (s *stalling) Open(_ context.Context, job Job) (Line, error) {
	s.job = job
	s.opened.Store(true)
	return s, nil
}

func (s *stalling) Send(_ context.Context, _, _ int, data []byte) error {
	s.sent.Add(1)
	s.work.Go(func() {
		<-s.until
		s.job.Settled(data)
	})
	return nil
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	s := newSchedule(start, Plan{Rate: 250, Warm: 2 * time.Second, Length: 4 * time.Second})
	if s.first != 500 || s.end != 1500 {
		t.Errorf("jobs %d to %d are counted, want 500 to 1500", s.first, s.end)
	}
	if at := s.at(500); !at.Equal(start.Add(2 * time.Second)) {
		t.Errorf("the first that counts is due %v after the start, want 2 s", at.Sub(start))
	}
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{-time.Second, 0}, {0, 1}, {3 * time.Millisecond, 1}, {4 * time.Millisecond, 2}, {time.Second, 251}, {time.Hour, 1500}} {
		if got := s.due(start.Add(c.after)); got != c.want {
			t.Errorf("%v after the start %d are due, want %d", c.after, got, c.want)
		}
	}
	for range 1000 {
		job := rand.IntN(s.end)
		if due := s.due(s.at(job).Add(time.Microsecond)); due < job+1 {
			t.Errorf("job %d is due at its time, but only %d are", job, due)
		}
	}
}
