package cluster

import (
	"testing"
	"time"
)

func TestFreshAsOfWhatIsApplied(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1000, 0)
	at := func(second int) time.Time { return begin.Add(time.Duration(second) * time.Second) }
	var f fresh
	if got := f.since(5); !got.IsZero() {
		t.Fatalf("nobody has told, and a view holds all of %v", got)
	}
	f.tell(at(1), 5, 5)
	f.tell(at(2), 8, 5) // not applied yet
	f.tell(at(3), 9, 7)
	for _, c := range []struct {
		applied uint64
		want    int
	}{{7, 1}, {8, 2}, {9, 2}} {
		if got := f.since(c.applied); !got.Equal(at(c.want)) {
			t.Errorf("with %d applied a view is as of %v, want %v", c.applied, got, at(c.want))
		}
	}
	f.tell(at(4), 9, 9)
	f.tell(at(0), 9, 9) // as a former leader, which was told nothing meanwhile
	if got := f.since(9); !got.Equal(at(4)) {
		t.Errorf("a view is as of %v, want %v", got, at(4))
	}
	f.tell(at(5), 12, 9)
	f.tell(at(6), 9, 9) // late, of a leader that was deposed
	if got := f.since(9); !got.Equal(at(4)) {
		t.Errorf("12 were committed at %v, and a view of 9 is as of %v", at(5), got)
	}
}
