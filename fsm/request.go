package fsm

import (
	"crypto/sha256"
	"errors"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	"sluice/queue"
)

// call is one that may carry a request id, remembered per method, application and instance.
type call struct {
	a       *application
	i       *instance // nil: of the application itself, or the instance does not exist
	method  string
	request string
	content proto.Message
}

func (c call) memory() queue.Memory {
	if c.i != nil {
		return c.i.memory()
	}
	return queue.Memory{Application: c.a.uid, Buckets: c.a.memory}
}

// once does a thing unless a call with its request id succeeded within the deduplication window; then it answers as
// that call did, marked duplicate.
func (t *txn) once(c call, do func() (*logv1.Outcome, error)) (*logv1.Outcome, error) {
	if c.request == "" {
		return do()
	}
	digest, err := digestOf(c.content)
	if err != nil {
		return nil, err
	}
	before, err := c.memory().Called(t, c.method, c.request)
	switch {
	case errors.Is(err, queue.ErrNotFound) || err == nil && before.TimeMs+c.a.settings.dedupWindow <= t.now:
	case err != nil:
		return nil, err
	case string(before.Digest) != string(digest):
		return refused(reason.IDReused.Errorf("request_id %q was used for %s with other content", c.request, c.method))
	default:
		t.fx.Counters.Duplicates++
		return markDuplicate(before.Outcome), nil
	}
	out, err := do()
	if err != nil || out.Fault != nil {
		return out, err
	}
	return out, t.rememberCall(c, digest, out)
}

func (t *txn) rememberCall(c call, digest []byte, out *logv1.Outcome) error {
	end, err := t.bucket(c.a)
	if err != nil {
		return err
	}
	if c.i != nil {
		t.note(c.i, end)
	}
	return c.memory().RememberCall(t, end, c.method, c.request, &logv1.RequestRecord{Digest: digest, Outcome: out, TimeMs: t.now})
}

// note makes an instance know that a bucket holds something of it, and lets go of buckets that are gone.
func (t *txn) note(i *instance, end int64) {
	mem := i.rec.Memory
	if n := len(mem); n > 0 && mem[n-1] == end {
		return
	}
	kept := make([]int64, 0, len(mem)+1)
	for _, e := range mem {
		for _, standing := range i.app.memory {
			if e == standing && e != end {
				kept = append(kept, e)
			}
		}
	}
	i.rec.Memory = append(kept, end)
	t.change(i)
}

func digestOf(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, err
	}
	return digestOfBytes(b), nil
}

func digestOfBytes(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:16]
}

func markDuplicate(o *logv1.Outcome) *logv1.Outcome {
	switch r := o.Result.(type) {
	case *logv1.Outcome_Application:
		r.Application.Duplicate = true
	case *logv1.Outcome_Transaction:
		r.Transaction.Duplicate = true
	case *logv1.Outcome_Instance:
		r.Instance.Duplicate = true
	case *logv1.Outcome_MessageStatus:
		r.MessageStatus.Duplicate = true
	case *logv1.Outcome_PutBack:
		r.PutBack.Duplicate = true
	case *logv1.Outcome_Operation:
		r.Operation.Duplicate = true
	}
	return o
}
