package fsm_test

import (
	"testing"
	"time"
)

// TestPutBackPastItsTimeWhileItIsDue: a frozen clock moves the time at which a message is due, and nothing takes that
// back when it is dead-lettered. What is put back past its time and comes due then does not expire.
func TestPutBackPastItsTimeWhileItIsDue(t *testing.T) {
	t.Parallel()
	r := setup(t, freeze)
	r.put(r.mortal("i", "a", time.Minute))
	r.freezeFor(10 * time.Second)
	r.advance(51 * time.Second) // looked at after 61 s, it expires after 70
	r.bury("i", 1)
	r.tick(time.Minute)
	r.putBack("i", false, 1)
	r.advance(0)
	r.wantLane("i", "a")
	r.enter("i")
	r.advance(time.Hour)
	r.wantLane("i", "a")
}

// TestPutBackIsDueTwice: of the times of before and of now, both within a recovery, one is held.
func TestPutBackIsDueTwice(t *testing.T) {
	t.Parallel()
	r := setup(t, freeze)
	r.put(r.mortal("i", "a", time.Minute))
	r.freezeFor(10 * time.Second)
	r.advance(51 * time.Second) // due after 70 s
	r.bury("i", 1)
	r.freezeFor(5 * time.Second)
	r.putBack("i", false, 1) // due after 75 s, of which 66 have passed
	r.enter("i")
	r.advance(time.Minute)
	r.complete("i", 0)
	r.advance(8 * time.Second)
	r.wantLane("i", "a")
	r.advance(time.Second)
	r.wantSettled("i", "a", kindExpired)
}
