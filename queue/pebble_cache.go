package queue

import (
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

const (
	defaultCacheBytes = 48 << 20
	// restBytes is what a cache that rests keeps for each store: what a few calls a second come back to.
	restBytes = 16 << 20
)

// BlockCache keeps in memory, for the stores of a process, blocks of tables that were read of late. Its methods may be called by
// several goroutines at once.
type BlockCache struct {
	cache *pebble.Cache
	rest  int64

	mu       sync.Mutex
	takeBack []func() // each takes back a part of what was given up; none: the cache does not rest
	closed   bool
}

// NewBlockCache makes a cache for so many stores of the default configuration: 48 MiB of blocks for each, and as much more as
// their tables in memory leave of the room that is theirs. It must be closed.
func NewBlockCache(stores int) *BlockCache {
	n := int64(stores)
	return &BlockCache{cache: pebble.NewCache(n * (defaultCacheBytes + memTablesMax*defaultMemTableBytes)), rest: n * restBytes}
}

// Rest gives up all but about 16 MiB of blocks for each store, and keeps to that until Wake. It tells how many bytes it gave up: they
// are garbage now.
func (c *BlockCache) Rest() (gaveUp int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0
	}
	held := c.cache.Size()
	// Nobody tells how much its stores' tables in memory leave it, but it is no less than what it holds: to take as much away as it
	// holds too much, again and again, leaves it the rest.
	for excess := held - c.rest; excess > 0; excess = c.cache.Size() - c.rest {
		c.takeBack = append(c.takeBack, c.cache.Reserve(int(max(excess, c.rest/16))))
	}
	return max(held-c.cache.Size(), 0)
}

// Wake has the cache take all its room again.
func (c *BlockCache) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wake()
}

// wake is Wake under mu.
func (c *BlockCache) wake() {
	for _, back := range c.takeBack {
		back()
	}
	c.takeBack = nil
}

// Close gives the cache up; stores that use it keep it until they are closed. A second Close does nothing, nor does Rest then.
func (c *BlockCache) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.wake()
	c.cache.Unref()
}
