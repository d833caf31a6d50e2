package cluster

import (
	"testing"
	"time"

	"sluice/queue"
)

// endingStore is a store whose readers end only once it was told that it ends, as Pebble's may when the disk has failed.
type endingStore struct {
	queue.Store
	ending chan struct{}
}

func (s *endingStore) Ending()      { close(s.ending) }
func (s *endingStore) Close() error { return nil }

func TestAStoreIsToldThatItEndsBeforeItsReadersHaveEnded(t *testing.T) {
	t.Parallel()
	store := &endingStore{ending: make(chan struct{})}
	g := guard(store)
	release, err := g.hold()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-store.ending
		release()
	}()
	closed := make(chan error, 1)
	go func() { closed <- g.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the store waits for a reader that waits for the store")
	}
}
