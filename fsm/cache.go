package fsm

// cache keeps instance headers decoded, as many as were used lately: two generations of which the older is dropped
// when the younger is full. What it holds never decides what is written.
type cache struct {
	half       int
	young, old map[InstanceID]*instance
}

func newCache(limit int) *cache {
	return &cache{half: max(limit/2, 1), young: map[InstanceID]*instance{}}
}

func (c *cache) get(id InstanceID) *instance {
	if i := c.young[id]; i != nil {
		return i
	}
	i := c.old[id]
	if i != nil {
		c.young[id] = i
	}
	return i
}

func (c *cache) put(i *instance) { c.young[i.id()] = i }

func (c *cache) drop(id InstanceID) {
	delete(c.young, id)
	delete(c.old, id)
}

// turn makes room. It is called between batches, when no instance is being changed.
func (c *cache) turn() {
	if len(c.young) >= c.half {
		c.old, c.young = c.young, make(map[InstanceID]*instance, c.half)
	}
}
