package sim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pair is a connection between two hosts.
func pair(t *testing.T, n *network) (a, b *host, near, far net.Conn) {
	t.Helper()
	a, b = n.boot("10.0.0.1"), n.boot("10.0.0.2")
	l, err := b.listen("tcp", "10.0.0.2:1")
	if err != nil {
		t.Fatal(err)
	}
	near, err = a.dial(t.Context(), "tcp", "10.0.0.2:1")
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b, near, far
}

func quietNetwork() *network { return newNetwork(dice{1}, newTrace(io.Discard)) }

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, want %q (%v)", b, want, err)
	}
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestStreamsKeepTheirOrderAndTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := quietNetwork()
		n.worsen("10.0.0.2", func(q *quality) { q.loss = 30 })
		_, _, near, far := pair(t, n)
		begun, all := time.Now(), strings.Repeat("0123456789", 30)
		for _, c := range all {
			send(t, near, string(c))
		}
		if err := near.Close(); err != nil {
			t.Fatal(err)
		}
		read(t, far, all)
		if _, err := far.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		if took := time.Since(begun); took < resend {
			t.Errorf("300 packets of which 30 %% are lost took %v", took)
		}
	})
}

func TestACutHoldsOneDirectionUntilItHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := quietNetwork()
		a, _, near, far := pair(t, n)
		n.cut(way{"10.0.0.1", "10.0.0.2"}, what{streams: true, words: true})
		send(t, near, "held")
		send(t, far, "heard")
		read(t, near, "heard")
		if err := far.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("across a cut: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := a.dial(ctx, "tcp", "10.0.0.2:1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a dial across a cut: %v", err)
		}
		n.heal(way{"10.0.0.1", "10.0.0.2"}, what{streams: true, words: true})
		if err := far.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		read(t, far, "held")
	})
}

func TestAKilledProcessIsToldOfAndADarkMachineIsNot(t *testing.T) {
	for _, dark := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			n := quietNetwork()
			a, b, near, far := pair(t, n)
			n.kill(b, dark)
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the dead read: %v", err)
			}
			if err := near.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			want := error(syscall.ECONNRESET)
			if dark {
				want = os.ErrDeadlineExceeded
			}
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("dark %v: the other end reads %v, want %v", dark, err, want)
			}
			n.boot("10.0.0.2")
			if err := near.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if _, err := near.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("dark %v: after the machine is back: %v", dark, err)
			}
			if _, err := a.dial(t.Context(), "tcp", "10.0.0.2:1"); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("a port that nobody has: %v", err)
			}
		})
	}
}

func TestWordsAreLostAcrossACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := quietNetwork()
		a, _, _, _ := pair(t, n)
		heard := 0
		a.datagram("10.0.0.2", func() { heard++ })
		time.AfterFunc(time.Second, func() {
			n.cut(way{"10.0.0.1", "10.0.0.2"}, what{streams: true, words: true})
			a.datagram("10.0.0.2", func() { heard++ })
		})
		<-time.After(time.Minute)
		synctest.Wait() // the race detector sees no order in time that passes
		if heard != 1 {
			t.Errorf("heard %d words, want 1", heard)
		}
	})
}
