package fsm

import (
	"cmp"
	"encoding/hex"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/queue"
)

const (
	// mostGrouped and mostGroupedBytes bound what one grouping looks at, and so what its groups keep of it.
	mostGrouped      = 100_000
	mostGroupedBytes = 256 << 20
	// mostGroups bounds the groups that are shown, groupInstances the instances named with each.
	mostGroups     = 100
	groupInstances = 10
)

// DeadLetters lists the dead letters of an application, by instance, lane and sequence number. A page may hold fewer than
// were asked for, and none: it is the last one when it has no token.
func (v *View) DeadLetters(q *sluicev1.ListDeadLettersRequest) (out *sluicev1.ListDeadLettersResponse, err error) {
	r := v.begin()
	defer r.end(&err)
	w := &deadWalk{reading: r, application: q.Application, instance: q.Instance, prefix: q.Prefix}
	if err := w.begin(q.PageToken); err != nil {
		return nil, err
	}
	size, err := pageSize(q.PageSize)
	if err == nil {
		err = checkText("fingerprint", q.Fingerprint, maxKeyBytes)
	}
	if err != nil {
		return nil, err
	}
	out = &sluicev1.ListDeadLettersResponse{}
	looked, held := 0, 0
	err = w.walk(func(key string, m *logv1.MessageRecord) bool {
		if len(out.DeadLetters) == size || looked == mostLooked || held > mostPageBytes {
			out.NextPageToken = deadToken(key, m)
			return false
		}
		looked++
		if q.Fingerprint == "" || q.Fingerprint == m.DeadLetter.GetFingerprint() {
			shown := &sluicev1.DeadLettered{Instance: key, Message: listedDead(m)}
			held += proto.Size(shown)
			out.DeadLetters = append(out.DeadLetters, shown)
		}
		return true
	})
	return out, err
}

// DeadLetterGroups counts the dead letters of an application that failed alike, the largest group first.
func (v *View) DeadLetterGroups(q *sluicev1.GroupDeadLettersRequest) (out *sluicev1.GroupDeadLettersResponse, err error) {
	r := v.begin()
	defer r.end(&err)
	w := &deadWalk{reading: r, application: q.Application, instance: q.Instance, prefix: q.Prefix}
	if err := w.begin(""); err != nil {
		return nil, err
	}
	out = &sluicev1.GroupDeadLettersResponse{}
	groups, read := map[string]*sluicev1.DeadLetterGroup{}, 0
	err = w.walk(func(key string, m *logv1.MessageRecord) bool {
		if out.LookedAt == mostGrouped || read > mostGroupedBytes {
			out.Truncated = true
			return false
		}
		out.LookedAt++
		read += proto.Size(m)
		addToGroup(groups, key, m.DeadLetter)
		return true
	})
	for _, g := range groups {
		out.Groups = append(out.Groups, g)
	}
	slices.SortFunc(out.Groups, func(a, b *sluicev1.DeadLetterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Fingerprint, b.Fingerprint))
	})
	out.Groups = out.Groups[:min(len(out.Groups), mostGroups)]
	return out, err
}

func addToGroup(groups map[string]*sluicev1.DeadLetterGroup, key string, d *sluicev1.DeadLetter) {
	g := groups[d.GetFingerprint()]
	if g == nil {
		g = &sluicev1.DeadLetterGroup{Fingerprint: d.GetFingerprint(), Reason: d.GetReason(), SampleError: d.GetLastError(), FirstTime: d.GetTime(), LastTime: d.GetTime()}
		groups[g.Fingerprint] = g
	}
	g.Count++
	if t := d.GetTime(); t.AsTime().Before(g.FirstTime.AsTime()) {
		g.FirstTime = t
	} else if t.AsTime().After(g.LastTime.AsTime()) {
		g.LastTime = t
	}
	if n := len(g.Instances); n < groupInstances && (n == 0 || g.Instances[n-1] != key) {
		g.Instances = append(g.Instances, key)
	}
}

// deadWalk walks the dead letters of one instance, or of those whose key begins with a prefix.
type deadWalk struct {
	*reading
	application, instance, prefix string

	a    *application
	from string // the instance to begin with
	lane sluicev1.Lane
	seq  uint64
}

func (w *deadWalk) begin(token string) (err error) {
	if w.a, err = w.reading.application(w.application); err != nil {
		return err
	}
	if w.instance != "" {
		if w.prefix != "" {
			return reason.BadField.Errorf("both an instance and a prefix are given; allowed is one of them")
		}
		if err := checkKey("instance", w.instance, reason.BadName); err != nil {
			return err
		}
	}
	if err := checkText("prefix", w.prefix, maxKeyBytes); err != nil || token == "" {
		return err
	}
	b, err := hex.DecodeString(token)
	if err != nil || len(b) < 10 {
		return reason.BadField.Errorf("page_token %q is not one that a list gave", cut(token))
	}
	w.lane, w.seq, w.from = sluicev1.Lane(b[0]), beUint64(b[1:]), string(b[9:])
	return nil
}

func deadToken(key string, m *logv1.MessageRecord) string {
	return hex.EncodeToString(append(u64([]byte{byte(m.Lane)}, m.Seq), key...))
}

// walk hands dead letters to yield, in order, until it says no.
func (w *deadWalk) walk(yield func(key string, m *logv1.MessageRecord) bool) error {
	if w.instance != "" {
		i, err := w.reading.instance(InstanceID{w.a.name(), w.instance})
		if err != nil || i.rec.DeadLetters == 0 {
			return err
		}
		_, err = w.of(i, yield)
		return err
	}
	base := named(tableDeadOf, w.a.name(), "")
	lower := append(slices.Clone(base), max(w.prefix, w.from)...)
	err := scanFrom(w, lower, queue.Successor(append(slices.Clone(base), w.prefix...)), func(k, _ []byte) error {
		i, err := w.reading.instance(InstanceID{w.a.name(), string(k[len(base):])})
		if err != nil {
			return err
		}
		more, err := w.of(i, yield)
		if err == nil && !more {
			err = errEnough
		}
		return err
	})
	return ignore(err, errEnough)
}

func (w *deadWalk) of(i *instance, yield func(string, *logv1.MessageRecord) bool) (more bool, err error) {
	key := i.rec.Key
	more = true
	for _, l := range []sluicev1.Lane{normalLane, recoveryLane, outgoingLane} {
		from := uint64(0)
		if key == w.from {
			if l < w.lane {
				continue
			}
			if l == w.lane {
				from = w.seq
			}
		}
		err := queue.DeadLetters(w, i.rec.Uid, l, from, func(m *logv1.MessageRecord) bool {
			more = yield(key, m)
			return more
		})
		if err != nil || !more {
			return more, err
		}
	}
	return more, nil
}

func listedDead(m *logv1.MessageRecord) *sluicev1.ListedMessage {
	return &sluicev1.ListedMessage{
		Message: m.Message, Seq: m.Seq, Lane: m.Lane, Status: sluicev1.Status_MESSAGE_STATUS_SETTLED,
		Attempts: m.Attempts, LastError: m.DeadLetter.GetLastError(), DeadLetter: m.DeadLetter,
		AttemptHistory: m.DeadLetter.GetAttempts(), Time: timestamp(m.TimeMs),
		Version: versionOf(m, m.Attempts), Edits: m.Edits, OriginalData: m.OriginalData,
	}
}
