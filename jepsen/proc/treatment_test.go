//go:build linux

package proc

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"sluice/jepsen/world"
)

// pumped is what comes out of a pump.
func pumped(t *testing.T, data []byte, treat treatment) (got []byte, took time.Duration) {
	t.Helper()
	w, _ := bare(t)
	from, sender := net.Pipe()
	receiver, to := net.Pipe()
	go w.pump(to, from, treat)
	go func() {
		_, _ = sender.Write(data) // a connection that is cut takes only a part
		_ = sender.Close()
	}()
	began := time.Now()
	got, err := io.ReadAll(receiver)
	if err != nil {
		t.Fatal(err)
	}
	return got, time.Since(began)
}

func TestANarrowLineTakesItsTime(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), 10<<10)
	got, took := pumped(t, data, narrow(len(data)*5)(nil))
	if !bytes.Equal(got, data) || took < 200*time.Millisecond {
		t.Errorf("%d of %d bytes came after %v", len(got), len(data), took)
	}
}

func TestACutConnectionEndsAmidWhatIsSaid(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), cutMost/5)
	for seed := range uint64(5) {
		got, _ := pumped(t, data, cutShort(rand.New(rand.NewPCG(seed, 1))))
		if len(got) == 0 || len(got) > cutMost || !bytes.HasPrefix(data, got) {
			t.Errorf("%d bytes came", len(got))
		}
	}
}

func TestAGarbledConnectionSaysSomethingElse(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789"), garbageMost/5)
	if got, _ := pumped(t, data, garbled(rand.New(rand.NewPCG(1, 1)))); bytes.Equal(got, data) || len(got) < garbageMost/4 {
		t.Errorf("%d bytes came, and nothing was garbled", len(got))
	}
}

// TestStrangersCallUntilTheHeal: each calls again when it has been answered, and the heal returns when all have stopped.
func TestStrangersCallUntilTheHeal(t *testing.T) {
	t.Parallel()
	for name, inject := range map[string]func(*World) injector{
		"garbage":    func(w *World) injector { return w.garble },
		"slow loris": func(w *World) injector { return w.slowLoris },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _ := bare(t)
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			heal, err := inject(w)(context.Background(), world.Fault{Seed: 7}, []*node{{w: w, place: "n1", address: listener.Addr().String()}})
			if err != nil {
				t.Fatal(err)
			}
			for range garbageStrangers + 1 {
				c, err := listener.Accept()
				if err != nil {
					t.Fatal(err)
				}
				_ = c.Close() // it will call again
			}
			if err := heal(context.Background()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
