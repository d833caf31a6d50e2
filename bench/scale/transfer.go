package main

// transfer is a replica's state on its way from one node to another.
type transfer struct {
	group, from, to int
	bytes           float64
	began, ended    float64
}

// carrier carries transfers: each node sends at most so many at once, and takes as many, each with its part of the rate.
type carrier struct {
	*world
	slots    int
	each     float64 // bytes a second of one transfer
	sending  []int
	taking   []int
	waitFrom [][]*transfer
	waitTo   [][]*transfer
	started  map[*transfer]bool
}

// carry plays transfers, in their order where there is a choice, and tells when the last one ended.
func carry(nodes int, transfers []*transfer, rate float64, slots int) float64 {
	c := &carrier{world: &world{}, slots: slots, each: rate / float64(slots), sending: make([]int, nodes), taking: make([]int, nodes), waitFrom: make([][]*transfer, nodes), waitTo: make([][]*transfer, nodes), started: map[*transfer]bool{}}
	for _, t := range transfers {
		c.waitFrom[t.from] = append(c.waitFrom[t.from], t)
		c.waitTo[t.to] = append(c.waitTo[t.to], t)
	}
	for n := range nodes {
		c.fill(n)
	}
	c.run()
	return c.now
}

// fill begins what may begin at a node.
func (c *carrier) fill(node int) {
	c.waitFrom[node] = c.begin(c.waitFrom[node])
	c.waitTo[node] = c.begin(c.waitTo[node])
}

// begin begins the transfers that find a slot at both ends, and gives back the others.
func (c *carrier) begin(waiting []*transfer) (left []*transfer) {
	left = waiting[:0]
	for _, t := range waiting {
		switch {
		case c.started[t]:
		case c.sending[t.from] < c.slots && c.taking[t.to] < c.slots:
			c.started[t] = true
			c.sending[t.from]++
			c.taking[t.to]++
			t.began = c.now
			c.after(t.bytes/c.each, func() {
				t.ended = c.now
				c.sending[t.from]--
				c.taking[t.to]--
				c.fill(t.from)
				c.fill(t.to)
			})
		default:
			left = append(left, t)
		}
	}
	return left
}
