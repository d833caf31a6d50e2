package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// restLook is how often it is looked whether the node rests: in that time it allocates no more than restAllocates.
	restLook      = 3 * time.Second
	restAllocates = 8 << 20
	// returnLeast is how much memory must be free, or garbage, to be given back.
	returnLeast = 32 << 20
)

// tendMemory sees to the memory of a process that runs nodes, all of them together, until ctx ends.
func tendMemory(ctx context.Context) {
	go paceCollector(ctx)
	go returnMemory(ctx)
}

// returnMemory gives memory that is not used back to the operating system once the node rests, until ctx ends. Go keeps what a
// burst took for the next one, and collects no garbage while nothing is allocated.
func returnMemory(ctx context.Context) {
	look := time.NewTicker(restLook)
	defer look.Stop()
	var r rest
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if r.look(heapNow()) {
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

// rest finds out when a node rests.
type rest struct {
	// allocated is what had been allocated at the last look.
	allocated uint64
	// kept is the least that was free or garbage since memory was given back, which could not free that.
	kept uint64
}

// look tells whether memory is to be given back: little was allocated since the last look, and there is enough of it.
func (r *rest) look(h heap) bool {
	rests := r.allocated > 0 && h.allocated-r.allocated <= restAllocates
	r.allocated, r.kept = h.allocated, min(r.kept, h.unused())
	return rests && h.unused() >= r.kept+returnLeast
}

// returned notes what could not be given back.
func (r *rest) returned(h heap) { r.allocated, r.kept = h.allocated, h.unused() }

func (h heap) unused() uint64 { return h.free + max(h.objects, h.live) - h.live }
