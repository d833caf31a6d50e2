//go:build linux

package proc

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"sluice/jepsen/world"
)

const (
	// garbageStrangers and slowStrangers are how many call on each node at once.
	garbageStrangers = 4
	slowStrangers    = 150
	// strangerPause is how long a stranger waits before it calls again.
	strangerPause = 100 * time.Millisecond
	// slowPause lies between two bytes of a slow one.
	slowPause = 700 * time.Millisecond
)

// beginnings are how callers of all kinds begin: nodes in plain text, a TLS handshake, HTTP/1 and HTTP/2.
var beginnings = []string{
	"\x01\x00\x00\x00\x00\x02n9", "\x02\x02n9", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x16\x03\x01\xff\xff",
	"POST /sluice.v1.MessageService/Send HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00",
	"GET /readyz HTTP/1.1\r\nHost: n\r\nX: ", "",
}

// strangers has some call on nodes, each again and again, until Heal.
func (w *World) strangers(seed uint64, nodes []*node, count int, call func(ctx context.Context, w *World, random *rand.Rand, c net.Conn)) world.Heal {
	ctx, cancel := context.WithCancel(w.closing)
	var all sync.WaitGroup
	for i, n := range nodes {
		for k := range count {
			random := rand.New(rand.NewPCG(seed, uint64(i*count+k)))
			all.Go(func() {
				for ctx.Err() == nil {
					dialer := net.Dialer{Timeout: time.Second}
					if c, err := dialer.DialContext(ctx, "tcp", n.address); err == nil {
						call(ctx, w, random, c)
						_ = c.Close() // what a stranger has to say is said
					}
					_ = w.Wait(ctx, strangerPause) // the loop ends with ctx
				}
			})
		}
	}
	return func(context.Context) error {
		cancel()
		all.Wait()
		return nil
	}
}

// babble begins as somebody who may call, mostly, and goes on with nonsense.
func babble(ctx context.Context, w *World, random *rand.Rand, c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second)) // a connection has deadlines
	if _, err := c.Write([]byte(beginnings[random.IntN(len(beginnings))])); err != nil {
		return
	}
	for range random.IntN(8) {
		if _, err := c.Write(nonsense(random)); err != nil || w.Wait(ctx, time.Millisecond) != nil {
			return
		}
	}
	_, _ = c.Read(make([]byte, 512)) // whatever the node says, if it does
}

// dawdle says a beginning a byte at a time, and then nothing, until the node has enough of it.
func dawdle(ctx context.Context, w *World, random *rand.Rand, c net.Conn) {
	ended := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer ended()
	for _, b := range []byte(beginnings[random.IntN(len(beginnings))]) {
		if _, err := c.Write([]byte{b}); err != nil || w.Wait(ctx, slowPause) != nil {
			return
		}
	}
	_, _ = c.Read(make([]byte, 1)) // it ends with the connection
}
