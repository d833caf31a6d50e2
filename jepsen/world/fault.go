package world

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of faults. Each says what Inject does with the fault's fields, and what Heal does.
const (
	// Partition drops what the network carries over the fault's Cuts, each in its direction alone. Heal carries it again.
	Partition Kind = "partition"
	// Loss drops Percent of the packets that arrive at Nodes.
	Loss Kind = "loss"
	// Delay holds what other nodes say to Nodes, and the answers, for Span, and longer now and then. Connections may break
	// when it begins and ends.
	Delay Kind = "delay"
	// GossipCut is Partition of gossip alone: raft and all else go on.
	GossipCut Kind = "gossip-cut"
	// RaftCut is Partition of what nodes say to each other but for gossip.
	RaftCut Kind = "raft-cut"
	// Lag has Nodes not hear the others, and breaks their connections, so that they lag behind. Heal has them hear again.
	Lag Kind = "lag"
	// Bandwidth carries no more than Rate bytes a second over each connection that other nodes make to Nodes, each way.
	Bandwidth Kind = "bandwidth"
	// FrameCut breaks connections that other nodes make to Nodes in the midst of what is said, again and again.
	FrameCut Kind = "frame-cut"
	// Garbage has strangers say nonsense to Nodes. If the world's nodes speak TLS, nonsense is also put among what other
	// nodes say to them; plain text has nothing against that but TCP.
	Garbage Kind = "garbage"
	// SlowLoris has strangers open connections to Nodes, and say what they have to say one byte at a time.
	SlowLoris Kind = "slow-loris"
	// WorkerCut cuts all workers off from Nodes, both ways.
	WorkerCut Kind = "worker-cut"

	// Kill ends Nodes at once, what was written but not synced survives. Heal starts them.
	Kill Kind = "kill"
	// CrashAt ends Nodes in the midst of something, as Kill or PowerLoss do: between two writes to a file, or before an
	// answer, which Seed chooses; again if they come there again. Heal starts them.
	CrashAt Kind = "crash-at"
	// Pause stops Nodes where they are, connections stay open. Heal lets them go on.
	Pause Kind = "pause"
	// PowerLoss ends Nodes at once, and what they have not synced is gone. Heal starts them. With all nodes named they
	// lose power together.
	PowerLoss Kind = "power-loss"
	// Restart ends Nodes in good order, one after the other, and starts each before the next. Heal does nothing.
	Restart Kind = "restart"
	// Transfer asks the cluster to move its leadership to the first of Nodes. Heal does nothing.
	Transfer Kind = "transfer"

	// DiskError has the disks of Nodes fail a sync; the nodes are expected to end. Heal starts them on a sound disk.
	DiskError Kind = "disk-error"
	// DiskFull leaves no room on the disks of Nodes. Heal frees it, and starts those that ended.
	DiskFull Kind = "disk-full"
	// DiskHang has every write to the disks of Nodes wait until Heal.
	DiskHang Kind = "disk-hang"
	// DiskSlow has every sync of Nodes take Span longer.
	DiskSlow Kind = "disk-slow"
	// DiskReadOnly refuses every write to the disks of Nodes. Heal allows them, and starts those that ended.
	DiskReadOnly Kind = "disk-read-only"
	// BitFlip stops Nodes, turns over one bit of one file of each, and starts them: they must refuse to start or be
	// whole. Heal replaces those that refused, as DiskLoss does.
	BitFlip Kind = "bit-flip"
	// Truncation is BitFlip with a file cut short.
	Truncation Kind = "truncation"
	// DiskLoss stops Nodes and takes all their data away. Heal removes the old ids from the cluster, starts empty nodes
	// at the same places, under new ids or, in the simulation, some under the old ones, and waits until they vote.
	DiskLoss Kind = "disk-loss"

	// Removal removes Nodes from the cluster while they run. Heal starts empty nodes under new ids at their places, and
	// waits until they vote.
	Removal Kind = "removal"

	// CertRotation gives Nodes new certificates, of another authority than before, by replacing the files while they
	// run, and waits until those that answer show them. Heal does it again.
	CertRotation Kind = "cert-rotation"
	// CertExpiry has the certificates of Nodes end while they run, and breaks their connections. Heal gives new ones.
	CertExpiry Kind = "cert-expiry"
	// CertWrong stops Nodes and starts them with a certificate that must not be believed, and says to all others that it
	// is one of them, too. Shape says what is wrong: one of WrongCertificates. Heal gives the right ones back, and starts
	// them.
	CertWrong Kind = "cert-wrong"

	// ClockSkew has the clocks of Nodes go ahead by Span, which may be negative, from one moment to the next.
	ClockSkew Kind = "clock-skew"

	// WorkerKill ends Workers at once. Heal starts them again under their names.
	WorkerKill Kind = "worker-kill"
	// WorkerPause stops Workers where they are. Heal lets them go on.
	WorkerPause Kind = "worker-pause"
)

// Kinds are all of them, in a fixed order.
func Kinds() []Kind {
	return []Kind{
		Partition, Loss, Delay, GossipCut, RaftCut, Lag, Bandwidth, FrameCut, Garbage, SlowLoris, WorkerCut,
		Kill, CrashAt, Pause, PowerLoss, Restart, Transfer,
		DiskError, DiskFull, DiskHang, DiskSlow, DiskReadOnly, BitFlip, Truncation, DiskLoss,
		Removal, CertRotation, CertExpiry, CertWrong,
		ClockSkew, WorkerKill, WorkerPause,
	}
}

// What is wrong with a certificate: who signed it, or whose it is.
const (
	ForeignCertificate = "foreign"
	UsersCertificate   = "user"
	OthersCertificate  = "other"
)

// WrongCertificates are the shapes of CertWrong.
func WrongCertificates() []string {
	return []string{ForeignCertificate, UsersCertificate, OthersCertificate}
}

// noKinds is how a list of no kinds is written.
const noKinds = "none"

// ParseKinds reads kinds of faults with commas between; "none" is none of them.
func ParseKinds(text string) (kinds []Kind, err error) {
	if text == noKinds {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		if kind := Kind(word); slices.Contains(Kinds(), kind) {
			kinds = append(kinds, kind)
			continue
		}
		return nil, fmt.Errorf("world: there is no kind of fault %q; there are: %s, %s", word, noKinds, joined(Kinds(), ", "))
	}
	return kinds, nil
}

// FormatKinds writes kinds of faults as ParseKinds reads them.
func FormatKinds(kinds []Kind) string {
	if len(kinds) == 0 {
		return noKinds
	}
	return joined(kinds, ",")
}

func joined(kinds []Kind, between string) string {
	words := make([]string, len(kinds))
	for n, kind := range kinds {
		words[n] = string(kind)
	}
	return strings.Join(words, between)
}

// CheckShape refuses a word that is not one for whom faults can be asked to hit; empty: chance decides.
func CheckShape(shape string) error {
	if allowed := []string{"leader", "one", "quorum", "all"}; shape != "" && !slices.Contains(allowed, shape) {
		return fmt.Errorf("world: faults cannot be asked to hit %q; they can hit: %s", shape, strings.Join(allowed, ", "))
	}
	return nil
}

// Cut is one direction of a connection between two places: From sends, To does not hear it.
type Cut struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Fault is one thing to be done to a world. Fields that its Kind does not speak of are zero.
type Fault struct {
	Kind Kind `json:"kind"`
	// Nodes are places.
	Nodes []string `json:"nodes,omitempty"`
	// Workers are names.
	Workers []string      `json:"workers,omitempty"`
	Cuts    []Cut         `json:"cuts,omitempty"`
	Percent int           `json:"percent,omitempty"`
	Span    time.Duration `json:"span,omitempty"`
	// Rate is in bytes a second.
	Rate int `json:"rate,omitempty"`
	// Seed of what the world chooses by itself: which bit, which file, which packet.
	Seed uint64 `json:"seed,omitempty"`
	// Shape says in a word what the cuts look like: majority, bridge, ring, one-way, …; or who was hit: leader, quorum, all;
	// or what is wrong with a certificate: foreign, user, other.
	Shape string `json:"shape,omitempty"`
}

// String is for a person: kind, shape and who is hit.
func (f Fault) String() string {
	words := []string{string(f.Kind)}
	if f.Shape != "" {
		words = append(words, "("+f.Shape+")")
	}
	words = append(words, f.Nodes...)
	words = append(words, f.Workers...)
	if len(f.Nodes)+len(f.Workers) == 0 {
		for _, cut := range f.Cuts {
			words = append(words, cut.From+">"+cut.To)
		}
	}
	if f.Percent != 0 {
		words = append(words, fmt.Sprintf("%d %%", f.Percent))
	}
	if f.Rate != 0 {
		words = append(words, fmt.Sprintf("%d B/s", f.Rate))
	}
	if f.Span != 0 {
		words = append(words, f.Span.String())
	}
	return strings.Join(words, " ")
}
