package workload

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"sluice/client"
)

// task is what a message asks its handler to do; it is the message's data.
type task struct {
	// Take is how long the handler takes, in milliseconds.
	Take int `json:"take,omitempty"`
	// Fail is how many attempts fail before one succeeds; a great number makes poison.
	Fail int `json:"fail,omitempty"`
	// Reject has the handler reject the message; Recover has it send the instance into recovery, every second time.
	Reject  bool `json:"reject,omitempty"`
	Recover bool `json:"recover,omitempty"`
	// Down has every attempt before this time, in Unix milliseconds, fail, as those of all such messages do.
	Down int64 `json:"down,omitempty"`
	// To is the instance of the same application that gets a message of its own, of the type As.
	To string `json:"to,omitempty"`
	As string `json:"as,omitempty"`
	// Reply has the handler reply.
	Reply bool `json:"reply,omitempty"`
}

const poison = 1000

// plan is a task by chance: most are plain.
func plan(random *rand.Rand, instances int) []byte {
	t := task{}
	if random.IntN(4) == 0 {
		t.Take = random.IntN(30)
	}
	switch roll := random.IntN(100); {
	case roll < 5:
		t.Fail = 1
	case roll < 6:
		t.Fail = poison
	case roll < 8:
		t.Reject = true
	case roll < 9:
		t.Recover = true
	case roll < 20:
		t.To, t.As = Instance(random.IntN(instances)), TypeWork
		if random.IntN(5) == 0 {
			t.As = TypeFix // refused where its target is not in recovery
		}
	case roll < 40:
		t.Reply = true
	}
	return t.data()
}

func (t task) data() []byte {
	data, err := json.Marshal(t)
	if err != nil {
		panic(err) // plain fields can be marshalled
	}
	return data
}

// readTask reads a message's data; what comes from an event log asks for nothing.
func readTask(data []byte) (t task) {
	if json.Unmarshal(data, &t) != nil {
		return task{}
	}
	return t
}

func (t task) take() time.Duration { return time.Duration(t.Take) * time.Millisecond }

// verdict is what the handler returns for a delivery; coin is true every second time. Failures as planned are not alike
// from one instance to the next, those of an outage are.
func (t task) verdict(d *client.Delivery, now time.Time, coin bool) error {
	switch {
	case t.Reject:
		return client.Reject(errors.New("rejected as planned"))
	case t.Recover && coin:
		return client.Recover(errors.New("recovery as planned"))
	case d.Attempt <= t.Fail:
		return fmt.Errorf("failed as planned at %s, attempt %d", letters(d.Instance.Key), d.Attempt)
	case now.UnixMilli() < t.Down:
		return fmt.Errorf("the store of %q is down, request %016x", d.Instance.Key, uint64(d.Seq))
	}
	return nil
}

// letters are a key's digits as letters, which an error text has in its fingerprint.
func letters(key string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return 'k' + r - '0'
		}
		return r
	}, key)
}
