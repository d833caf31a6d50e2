package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// exchange is a pattern with a type of each class.
var exchange = &sluicev1.Pattern{Name: "exchange", Types: []*sluicev1.MessageType{
	{Name: "plain"},
	{Name: "normal", Suitable: sluicev1.Suitability_SUITABLE_NORMAL},
	{Name: "repair", Suitable: sluicev1.Suitability_SUITABLE_RECOVERY},
	{Name: "both", Suitable: sluicev1.Suitability_SUITABLE_BOTH},
}}

// toMode brings an instance with something in its normal lane into a mode. In draining one deferred message is left.
func (r *rig) toMode(key string, m sluicev1.Mode) {
	r.t.Helper()
	switch m {
	case recovery:
		r.enter(key)
	case draining:
		r.enter(key)
		r.put(message(key, "backlog", "plain"))
		r.complete(key, 0)
	default:
		r.put(message(key, "first", "plain"))
	}
	r.wantMode(key, m)
}

func TestGate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ  string
		mode sluicev1.Mode
		want sluicev1.Disposition // 0: refused
		lane sluicev1.Lane
	}{
		{"plain", normal, dispAccepted, laneNormal},
		{"normal", normal, dispAccepted, laneNormal},
		{"normal", recovery, dispDeferred, laneNormal},
		{"normal", draining, dispDeferred, laneNormal},
		{"repair", normal, 0, 0},
		{"repair", recovery, dispRecovery, laneRecovery},
		{"repair", draining, 0, 0},
		{"both", normal, dispAccepted, laneNormal},
		{"both", recovery, dispRecovery, laneRecovery},
		{"both", draining, dispDeferred, laneNormal},
	} {
		t.Run(fmt.Sprint(c.typ, " in ", c.mode), func(t *testing.T) {
			t.Parallel()
			gateRow(setup(t, patterns(exchange)), c.typ, c.mode, c.want, c.lane)
		})
	}
}

func gateRow(r *rig, typ string, m sluicev1.Mode, want sluicev1.Disposition, lane sluicev1.Lane) {
	r.t.Helper()
	r.toMode("i", m)
	before := r.instance("i")
	if want == 0 {
		r.noSend("NOT_SUITABLE", message("i", "x", typ))
		if after := r.instance("i"); !proto.Equal(before, after) {
			r.t.Fatalf("a refused message changed the instance: %v, %v", before, after)
		}
		return
	}
	got := r.put(message("i", "x", typ))
	ahead := before.NormalMessages
	if lane == laneRecovery {
		ahead = before.RecoveryMessages
	}
	wanted := &sluicev1.Receipt{MessageId: "x", Seq: before.NextSeq, Disposition: want, Mode: m, Epoch: before.Epoch, Ahead: ahead, Index: r.index}
	if !proto.Equal(got, wanted) {
		r.t.Fatalf("receipt: want %v, got %v", wanted, got)
	}
	status := queued
	if want == dispDeferred {
		status = held
	}
	if s := r.wantStatus("i", "x", status); s.Lane != lane || s.Disposition != want || s.Seq != wanted.Seq {
		r.t.Fatalf("status %v", s)
	}
}

func TestGateWithoutPatterns(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.noSend("NOT_SUITABLE", message("i", "x", "recovery.x"))
	if _, err := r.m.View().Instance(fsm.InstanceID{Application: "app", Key: "i"}); err == nil {
		t.Fatal("a refused message made an instance")
	}
	if d := r.put(message("i", "a", "recovery")).Disposition; d != dispAccepted {
		t.Fatal(d)
	}
	r.enter("i")
	if d := r.put(message("i", "b", "recovery.x")).Disposition; d != dispRecovery {
		t.Fatal(d)
	}
	if d := r.put(message("i", "c", "xrecovery.")).Disposition; d != dispDeferred {
		t.Fatal(d)
	}
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true})
	r.noSend("NOT_SUITABLE", message("i", "d", "recovery.x"))
}

// complete2 completes with more than the usual.
func (r *rig) complete2(key string, q *sluicev1.CompleteRecoveryRequest) *sluicev1.Instance {
	r.t.Helper()
	q.Instance = key
	return r.ok(completeRequest(q)).GetInstance()
}

func TestReceiptsCountOneSequenceOverBothLanes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for n, want := range []struct {
		id, typ string
		ahead   uint64
	}{{"n1", "step", 0}, {"n2", "step", 1}, {"r1", "recovery.a", 0}, {"n3", "step", 2}, {"r2", "recovery.a", 1}} {
		if n == 2 {
			r.enter("i")
		}
		got := r.put(message("i", want.id, want.typ))
		if got.Seq != uint64(n+1) || got.Ahead != want.ahead || got.Index != r.index {
			t.Fatalf("%s: %v", want.id, got)
		}
	}
	if n := r.instance("i").NextSeq; n != 6 {
		t.Fatal(n)
	}
	// The messages of one call share an index; each is judged alone, and the order is kept.
	out := r.ok(sendCommand(message("i", "n4", "step"), message("i", "", "step"), message("i", "n4", "step"), message("i", "n5", "step"))).GetSend().Results
	if a, b := out[0].Receipt, out[3].Receipt; a.Seq != 6 || b.Seq != 7 || a.Index != r.index || b.Index != r.index {
		t.Fatalf("%v", out)
	}
	if out[1].Error.GetReason() != "BAD_FIELD" || !out[2].Receipt.GetDuplicate() || out[2].Receipt.Seq != 6 {
		t.Fatalf("%v", out)
	}
}

func TestSeenBeforeIsJudgedFirst(t *testing.T) {
	t.Parallel()
	one := uint64(1)
	pattern := &sluicev1.Pattern{Name: "p", Types: []*sluicev1.MessageType{{Name: "open", Opens: true, After: []string{""}}, {Name: "next", After: []string{"open"}}, {Name: "fix", Suitable: sluicev1.Suitability_SUITABLE_RECOVERY}}}
	r := setup(t, patterns(pattern), limits(&sluicev1.Limits{MaxInboxMessages: &one}))
	first := r.put(message("i", "a", "open"))
	again := func() {
		t.Helper()
		got := r.put(message("i", "a", "open"))
		want := proto.CloneOf(first)
		want.Duplicate = true
		if !proto.Equal(got, want) {
			t.Fatalf("again: want %v, got %v", want, got)
		}
	}
	again() // out of pattern and over the limit by now
	r.enter("i")
	again() // in another mode and epoch
	r.enterAll("all")
	again()
	r.complete("i", 0)
	r.own("i", "s")
	r.work("s", "i", "a")
	again() // settled
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "i"}))
	again() // terminated
	// What comes next in the order of judgment.
	r.noSend("TERMINATED", message("i", "b", "nonsense"))
	r.put(message("j", "a", "open"))
	r.noSend("UNKNOWN_TYPE", message("j", "b", "nonsense"))
	r.noSend("OUT_OF_PATTERN", message("j", "b", "open"))
	r.noSend("NOT_SUITABLE", message("j", "b", "fix"))
	r.noSend("LIMIT_INBOX_MESSAGES", message("j", "b", "next"))
	r.noSend("ID_REUSED", message("j", "a", "next"))
	// Fields come before all that: an application and a shape that cannot be.
	r.noSend("BAD_FIELD", &sluicev1.Message{Application: "app", Instance: "i", Id: "a"})
}

func TestSameIDOtherContent(t *testing.T) {
	t.Parallel()
	r := setup(t)
	base := func() *sluicev1.Message {
		m := message("i", "a", "step")
		m.Transaction, m.ContentType, m.Headers = "t", "text/plain", map[string]string{"a": "1", "b": "2"}
		return m
	}
	r.put(base())
	for name, change := range map[string]func(*sluicev1.Message){
		"type":         func(m *sluicev1.Message) { m.Type = "other" },
		"transaction":  func(m *sluicev1.Message) { m.Transaction = "" },
		"content type": func(m *sluicev1.Message) { m.ContentType = "" },
		"data":         func(m *sluicev1.Message) { m.Data = nil },
		"header":       func(m *sluicev1.Message) { m.Headers["a"] = "2" },
		"more headers": func(m *sluicev1.Message) { m.Headers["c"] = "" },
		"less headers": func(m *sluicev1.Message) { delete(m.Headers, "a") },
		"shifted":      func(m *sluicev1.Message) { m.Headers = map[string]string{"a": "1b", "": "2"} },
	} {
		m := base()
		change(m)
		if res := r.try(m); res.Error.GetReason() != "ID_REUSED" {
			t.Errorf("%s: %v", name, res)
		}
	}
	// What is not content may differ.
	m := base()
	m.Source, m.AwaitReply, m.ExpireTime = "elsewhere", true, timestamppb.New(time.Unix(1, 0))
	if got := r.put(m); !got.Duplicate {
		t.Fatal(got)
	}
	r.own("i", "s")
	r.work("s", "i", "a")
	m = base()
	m.Type = "other"
	r.noSend("ID_REUSED", m)
	// The id is unique within its instance only.
	r.put(message("j", "a", "other"))
}

func TestARefusedMessageWasNotSeen(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.send("i", "first")
	r.noSend("NOT_SUITABLE", message("i", "x", "recovery.x"))
	if got := r.put(message("i", "x", "other")); got.Duplicate || got.Seq != 2 {
		t.Fatal(got)
	}
}

func number(n uint64) *uint64 { return &n }

func TestLimits(t *testing.T) {
	t.Parallel()
	body := func(id string, n int) *sluicev1.Message {
		m := message("i", id, "step")
		m.Data = make([]byte, n)
		return m
	}
	for name, c := range map[string]struct {
		limits *sluicev1.Limits
		enter  bool
		fit    []int // sizes of messages that fit, together
		over   int   // the size of one that does not
		want   string
	}{
		"message bytes":                            {&sluicev1.Limits{MaxMessageBytes: number(10)}, false, []int{0, 10}, 11, "LIMIT_MESSAGE_BYTES"},
		"message bytes, none":                      {&sluicev1.Limits{MaxMessageBytes: number(0)}, false, []int{1<<20 + 1}, 0, ""},
		"message bytes, 1 MiB by default":          {&sluicev1.Limits{}, false, []int{1 << 20}, 1<<20 + 1, "LIMIT_MESSAGE_BYTES"},
		"inbox messages":                           {&sluicev1.Limits{MaxInboxMessages: number(2)}, false, []int{1, 1}, 0, "LIMIT_INBOX_MESSAGES"},
		"inbox messages, held":                     {&sluicev1.Limits{MaxInboxMessages: number(2)}, true, []int{1, 1}, 0, "LIMIT_INBOX_MESSAGES"},
		"inbox bytes":                              {&sluicev1.Limits{MaxInboxBytes: number(10)}, false, []int{4, 6, 0}, 1, "LIMIT_INBOX_BYTES"},
		"inbox bytes, none":                        {&sluicev1.Limits{MaxInboxBytes: number(0), MaxInboxMessages: number(0)}, false, []int{4, 6, 0}, 0, ""},
		"deferred messages":                        {&sluicev1.Limits{MaxDeferredMessages: number(2)}, true, []int{1, 1}, 0, "LIMIT_DEFERRED_MESSAGES"},
		"deferred messages bind only what is held": {&sluicev1.Limits{MaxDeferredMessages: number(1)}, false, []int{1, 1, 1}, 0, ""},
		"deferred bytes":                           {&sluicev1.Limits{MaxDeferredBytes: number(10)}, true, []int{4, 6, 0}, 1, "LIMIT_DEFERRED_BYTES"},
		"deferred bytes, none":                     {&sluicev1.Limits{MaxDeferredBytes: number(0), MaxDeferredMessages: number(0), MaxApplicationDeferredBytes: number(0)}, true, []int{4, 6, 0}, 0, ""},
		"application bytes":                        {&sluicev1.Limits{MaxApplicationDeferredBytes: number(10)}, true, []int{4, 6, 0}, 1, "LIMIT_APPLICATION_BYTES"},
		"application bytes bind only what is held": {&sluicev1.Limits{MaxApplicationDeferredBytes: number(1)}, false, []int{4, 6}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, limits(c.limits))
			if c.enter {
				r.enter("i")
			}
			for n, size := range c.fit {
				r.put(body(fmt.Sprint("fit", n), size))
			}
			if c.want != "" {
				before := r.instance("i")
				r.noSend(c.want, body("over", c.over))
				if !proto.Equal(before, r.instance("i")) {
					t.Fatal("a refused message changed the instance")
				}
			}
		})
	}
}

func TestLimitsAreGivenBack(t *testing.T) {
	t.Parallel()
	r := setup(t, limits(&sluicev1.Limits{MaxInboxMessages: number(2), MaxDeferredMessages: number(1), MaxApplicationDeferredBytes: number(1)}))
	r.enter("i")
	r.send("i", "a")
	r.noSend("LIMIT_DEFERRED_MESSAGES", message("i", "b", "step"))
	r.noSend("LIMIT_APPLICATION_BYTES", func() *sluicev1.Message { r.enter("j"); return message("j", "b", "step") }())
	r.sendRecovery("i", "r") // both lanes count for the inbox
	r.noSend("LIMIT_INBOX_MESSAGES", message("i", "b", "recovery.step"))
	r.complete2("i", &sluicev1.CompleteRecoveryRequest{DiscardRecoveryMessages: true})
	r.own("i", "s")
	r.work("s", "i", "a")
	r.send("i", "b", "c")
	r.send("j", "b")
	if c := r.application("app").Counts; c.DeferredMessages != 1 || c.DeferredBytes != 1 {
		t.Fatal(c)
	}
	r.ok(terminateRequest(&sluicev1.TerminateRequest{Instance: "j"}))
	if c := r.application("app").Counts; c.DeferredMessages != 0 || c.DeferredBytes != 0 {
		t.Fatal(c)
	}
}

func TestMessageShapes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	long := strings.Repeat("x", 257)
	tooMany := map[string]string{}
	for n := range 101 {
		tooMany[fmt.Sprint(n)] = ""
	}
	for name, c := range map[string]struct {
		want   string
		change func(*sluicev1.Message)
	}{
		"no application":       {"UNKNOWN_APPLICATION", func(m *sluicev1.Message) { m.Application = "other" }},
		"no application name":  {"BAD_NAME", func(m *sluicev1.Message) { m.Application = "Other" }},
		"no instance":          {"BAD_NAME", func(m *sluicev1.Message) { m.Instance = "" }},
		"long instance":        {"BAD_NAME", func(m *sluicev1.Message) { m.Instance = long }},
		"control in instance":  {"BAD_NAME", func(m *sluicev1.Message) { m.Instance = "a\x7f" }},
		"C1 control":           {"BAD_NAME", func(m *sluicev1.Message) { m.Instance = "a\u0085" }},
		"no id":                {"BAD_FIELD", func(m *sluicev1.Message) { m.Id = "" }},
		"long id":              {"BAD_FIELD", func(m *sluicev1.Message) { m.Id = long }},
		"no type":              {"BAD_FIELD", func(m *sluicev1.Message) { m.Type = "" }},
		"long type":            {"BAD_FIELD", func(m *sluicev1.Message) { m.Type = long }},
		"long transaction":     {"BAD_NAME", func(m *sluicev1.Message) { m.Transaction = long }},
		"control in a header":  {"", func(m *sluicev1.Message) { m.Headers = map[string]string{"a": "\n"} }},
		"too many headers":     {"BAD_FIELD", func(m *sluicev1.Message) { m.Headers = tooMany }},
		"too long headers":     {"BAD_FIELD", func(m *sluicev1.Message) { m.Headers = map[string]string{"a": strings.Repeat("x", 16<<10)} }},
		"long source":          {"BAD_FIELD", func(m *sluicev1.Message) { m.Source = long }},
		"long content type":    {"BAD_FIELD", func(m *sluicev1.Message) { m.ContentType = long }},
		"impossible expiry":    {"BAD_FIELD", func(m *sluicev1.Message) { m.ExpireTime = &timestamppb.Timestamp{Nanos: -1} }},
		"longest of all":       {"", func(m *sluicev1.Message) { m.Instance, m.Type = long[1:], long[1:] }},
		"a replacement rune":   {"", func(m *sluicev1.Message) { m.Instance = "\uFFFD" }},
		"not only ASCII, fine": {"", func(m *sluicev1.Message) { m.Instance, m.Type, m.Transaction = "höhe/1", "größe 2", "ж" }},
	} {
		m := message("i", "m "+name, "step")
		c.change(m)
		if got := r.try(m).Error.GetReason(); got != c.want {
			t.Errorf("%s: want %q, got %q", name, c.want, got)
		}
	}
}

func TestApplicationNames(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for name, good := range map[string]bool{
		"a": true, "0": true, "a.b_c-d": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "-a": false, ".a": false, "A": false, "a b": false, "a/b": false, "ä": false, "a\n": false,
	} {
		out := r.do(&logv1.Command{Kind: &logv1.Command_ApplyApplication{ApplyApplication: &sluicev1.Application{Name: name}}})
		if got := out.Fault == nil; got != good || !good && out.Fault.Reason != "BAD_NAME" {
			t.Errorf("%q: %v", name, out)
		}
	}
}
