package cluster

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// BenchmarkIdleGroups tells what a replica costs that has nothing to do, with the timeouts of docs/adr/0022: many groups
// of three in one process, logs in memory; with connections of their own over TCP on loopback, or with none. What it
// prints is a parameter of bench/scale.
func BenchmarkIdleGroups(b *testing.B) {
	b.Run("tcp", func(b *testing.B) { idleGroups(b, carryTCP) })
	b.Run("memory", func(b *testing.B) { idleGroups(b, carryMemory) })
}

func idleGroups(b *testing.B, carry func(*testing.B, int) ([]raft.Server, []raft.Transport)) {
	const groups = 50
	before, routines := memory(), runtime.NumGoroutine()
	replicas := startGroups(b, groups, carry)
	count := float64(len(replicas))
	bytes, routines := float64(memory()-before)/count, runtime.NumGoroutine()-routines
	b.ResetTimer()
	used, began := cpu(b), time.Now()
	for range b.N {
		tick := time.NewTimer(time.Second)
		<-tick.C
	}
	b.ReportMetric(float64((cpu(b)-used).Microseconds())/time.Since(began).Seconds()/count, "µs-CPU/replica/s")
	b.ReportMetric(bytes, "B/replica")
	b.ReportMetric(float64(routines)/count, "goroutines/replica")
}

// startGroups starts groups of three and waits until each has a leader.
func startGroups(b *testing.B, groups int, carry func(*testing.B, int) ([]raft.Server, []raft.Transport)) (replicas []*raft.Raft) {
	b.Helper()
	b.Cleanup(func() {
		for _, r := range replicas {
			if err := r.Shutdown().Error(); err != nil {
				b.Error(err)
			}
		}
	})
	for g := range groups {
		servers, carriers := carry(b, g)
		for n := range servers {
			replicas = append(replicas, startReplica(b, servers, n, carriers[n]))
		}
	}
	for g := range groups {
		awaitLeader(b, replicas[3*g:3*g+3])
	}
	return replicas
}

// carryTCP gives each replica of a group a listener and connections of its own.
func carryTCP(b *testing.B, group int) (servers []raft.Server, carriers []raft.Transport) {
	b.Helper()
	for n := range 3 {
		carrier, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, time.Second, hclog.NewNullLogger())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { carrier.CloseStreams(); _ = carrier.Close() }) // a listener closes or is gone with the process
		carriers = append(carriers, carrier)
		servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprintf("%d-%d", group, n)), Address: carrier.LocalAddr()})
	}
	return servers, carriers
}

// carryMemory lets the replicas of a group call each other.
func carryMemory(b *testing.B, group int) (servers []raft.Server, carriers []raft.Transport) {
	b.Helper()
	var all []*raft.InmemTransport
	for n := range 3 {
		address, carrier := raft.NewInmemTransport("")
		for _, other := range all {
			other.Connect(address, carrier)
			carrier.Connect(other.LocalAddr(), other)
		}
		all, carriers = append(all, carrier), append(carriers, carrier)
		servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprintf("%d-%d", group, n)), Address: address})
	}
	return servers, carriers
}

func startReplica(b *testing.B, servers []raft.Server, n int, carrier raft.Transport) *raft.Raft {
	b.Helper()
	cfg, cluster := raft.DefaultConfig(), Config{}.Defaults()
	cfg.LocalID, cfg.Logger = servers[n].ID, hclog.NewNullLogger()
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = cluster.HeartbeatTimeout, cluster.ElectionTimeout, cluster.LeaderLeaseTimeout
	store := raft.NewInmemStore()
	snapshots := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(cfg, store, store, snapshots, carrier, raft.Configuration{Servers: servers}); err != nil {
		b.Fatal(err)
	}
	r, err := raft.NewRaft(cfg, nothing{}, store, store, snapshots, carrier)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// awaitLeader waits until one of a group's replicas leads.
func awaitLeader(b *testing.B, group []*raft.Raft) {
	b.Helper()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	var leads bool
	for !leads {
		select {
		case leads = <-group[0].LeaderCh():
		case leads = <-group[1].LeaderCh():
		case leads = <-group[2].LeaderCh():
		case <-patience.C:
			b.Fatal("no leader within a minute")
		}
	}
}

func memory() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// cpu is what the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// nothing is a state machine without a state.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(r io.ReadCloser) error       { return r.Close() }
func (nothing) Persist(s raft.SnapshotSink) error   { _, err := io.Copy(s, &bytes.Buffer{}); return err }
func (nothing) Release()                            {}
