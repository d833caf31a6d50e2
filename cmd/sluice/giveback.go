package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"sluice/queue"
)

const (
	// restLook is how often it is looked whether the nodes rest: in that time they allocate no more than restAllocates.
	restLook      = 3 * time.Second
	restAllocates = 8 << 20
	// returnLeast is how much memory must be free, or garbage, to be given back.
	returnLeast = 32 << 20
)

// tendMemory sees to the memory of a process that runs nodes, all of them together, until ctx ends: to the collector's pace, and
// to what is given back while they rest, of the cache that they share, too.
func tendMemory(ctx context.Context, blocks *queue.BlockCache) {
	go paceCollector(ctx)
	go returnMemory(ctx, blocks)
}

// returnMemory gives memory that is not used back to the operating system once the nodes rest, until ctx ends. Go keeps what a
// burst took for the next one, and collects no garbage while nothing is allocated; and the cache of blocks keeps what was read.
func returnMemory(ctx context.Context, blocks *queue.BlockCache) {
	look := time.NewTicker(restLook)
	defer look.Stop()
	var r rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		h := heapNow()
		if !r.look(h) {
			blocks.Wake()
			continue
		}
		if r.worthwhile(h, uint64(blocks.Rest())) {
			debug.FreeOSMemory()
			r.returned(heapNow())
		}
	}
}

// heap is what the runtime tells of its memory, in bytes: what was ever allocated, what is free and not given back, and what
// objects take, of which live was found in use by the last collection.
type heap struct{ allocated, free, objects, live uint64 }

func heapNow() heap {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return heap{s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()}
}

// rest finds out when nodes rest.
type rest struct {
	// allocated is what had been allocated at the last look.
	allocated uint64
	// kept is the least that was free or garbage since memory was given back, which could not free that.
	kept uint64
}

// look tells whether the nodes rest: little was allocated since the last look.
func (r *rest) look(h heap) bool {
	rests := r.allocated > 0 && h.allocated-r.allocated <= restAllocates
	r.allocated, r.kept = h.allocated, min(r.kept, h.unused())
	return rests
}

// worthwhile tells whether there is enough to be given back, with what the cache gave up just now.
func (r *rest) worthwhile(h heap, gaveUp uint64) bool {
	return h.unused()+gaveUp >= r.kept+returnLeast
}

// returned notes what could not be given back.
func (r *rest) returned(h heap) { r.allocated, r.kept = h.allocated, h.unused() }

func (h heap) unused() uint64 { return h.free + max(h.objects, h.live) - h.live }
