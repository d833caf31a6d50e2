package replay

import (
	"strings"
	"testing"

	"sluice/client"
)

// bench is a replay of one case of three events in which everything went well: the second was deferred.
func bench(t *testing.T) (*run, *book) {
	t.Helper()
	p := mustRead(t, logOf([]int{1, 2, 3}), 0)
	r := &run{cfg: Config{Application: "a"}.withDefaults(), plan: p, ledger: newLedger(p)}
	for i, e := range p.order {
		receipt := client.Receipt{MessageID: e.id(), Seq: client.Seq(i + 1), Disposition: client.DispositionAccepted, Mode: client.ModeNormal}
		if e.deferred = i == 1; e.deferred {
			receipt.Disposition, receipt.Mode = client.DispositionDeferred, client.ModeRecovery
		}
		r.ledger.accepted(e, receipt, false)
		r.give(t, i, client.Epoch(10*i+10))
	}
	return r, r.ledger.books["case 0"]
}

// give hands one event to the handler.
func (r *run) give(t *testing.T, place int, epoch client.Epoch) {
	t.Helper()
	e := r.plan.order[place]
	d := delivery{key: e.of.key, id: e.id(), kind: e.kind, data: e.data, seq: client.Seq(place + 1), epoch: epoch, deferred: place == 1}
	if err := r.ledger.handle(d); err != nil {
		t.Fatal(err)
	}
}

func TestAGoodReplayHasNoViolation(t *testing.T) {
	t.Parallel()
	r, b := bench(t)
	r.verifyBook(b)
	r.verifyEnd(b, client.Instance{Mode: client.ModeNormal, NextSeq: 4})
	r.judgeEpochs(b, []client.Transition{{To: client.ModeRecovery, Epoch: 15}, {To: client.ModeDraining, Epoch: 18}, {To: client.ModeNormal, Epoch: 18}})
	if r.wrong != 0 {
		t.Errorf("violations: %q", r.violations)
	}
	report := r.report()
	if report.Sent != 3 || report.Delivered != 3 || report.Deferred != 1 || report.Drained != 1 || report.Duplicates != 0 {
		t.Errorf("the report is %+v", report)
	}
}

func TestEveryViolationIsSeen(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		spoil func(*testing.T, *run, *book)
		want  string
	}{
		"lost":         {func(_ *testing.T, _ *run, b *book) { b.entries = b.entries[:2] }, "event-2 was never handled"},
		"twice":        {func(t *testing.T, r *run, _ *book) { r.give(t, 2, 30) }, "event-2 was handled where event-3"},
		"out of order": {func(_ *testing.T, _ *run, b *book) { b.entries[0], b.entries[1] = b.entries[1], b.entries[0] }, "event-1 was handled where event-0"},
		"content":      {func(_ *testing.T, _ *run, b *book) { b.entries[1].digest[0] ^= 1 }, "with other content"},
		"another seq":  {func(_ *testing.T, _ *run, b *book) { b.entries[2].seq = 9 }, "handed over as seq 9"},
		"receipts":     {func(_ *testing.T, _ *run, b *book) { b.receipts[2].Seq = 1 }, "has seq 1, the one before it 2"},
		"not deferred": {func(_ *testing.T, _ *run, b *book) {
			b.receipts[1].Disposition, b.receipts[1].Mode = client.DispositionAccepted, client.ModeNormal
		}, "in the middle of a recovery"},
		"gate": {func(_ *testing.T, _ *run, b *book) { b.receipts[0].Mode = client.ModeRecovery }, "was accepted in mode recovery"},
		"mark": {func(_ *testing.T, _ *run, b *book) { b.entries[1].deferred = false }, "handed over as deferred: false"},
		"not normal": {func(_ *testing.T, r *run, b *book) {
			r.verifyEnd(b, client.Instance{Mode: client.ModeDraining, NextSeq: 4})
		}, "at the end it is draining"},
		"left over": {func(_ *testing.T, r *run, b *book) {
			r.verifyEnd(b, client.Instance{Mode: client.ModeNormal, NormalMessages: 2, NextSeq: 4})
		}, "with 2 unsettled"},
		"not taken": {func(_ *testing.T, r *run, b *book) {
			r.verifyEnd(b, client.Instance{Mode: client.ModeNormal, NextSeq: 3})
		}, "it has taken 2 messages"},
		"in recovery": {func(_ *testing.T, r *run, b *book) {
			r.judgeEpochs(b, []client.Transition{{To: client.ModeRecovery, Epoch: 20}, {To: client.ModeDraining, Epoch: 25}})
		}, "under epoch 20, in which it was in recovery"},
		"recovery handler": {func(_ *testing.T, r *run, b *book) {
			r.ledger.recovering("case 0", 30)
			r.judgeEpochs(b, []client.Transition{{To: client.ModeRecovery, Epoch: 15}, {To: client.ModeDraining, Epoch: 18}})
		}, "a recovery handler was called under epoch 30"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, b := bench(t)
			row.spoil(t, r, b)
			r.verifyBook(b)
			if !strings.Contains(strings.Join(r.violations, "\n"), row.want) {
				t.Errorf("violations %q, want one with %q", r.violations, row.want)
			}
		})
	}
}

func TestTheLedgerFences(t *testing.T) {
	t.Parallel()
	r, b := bench(t)
	e := r.plan.order[2]
	late := delivery{key: e.of.key, id: e.id(), kind: e.kind, data: e.data, seq: 3, epoch: 29}
	if err := r.ledger.handle(late); err != errFenced || len(b.entries) != 3 {
		t.Errorf("a handler of an old epoch wrote: %v, %d entries", err, len(b.entries))
	}
	if through := r.ledger.through("case 0", 40); through != 3 {
		t.Errorf("the handlers came to seq %d, want 3", through)
	}
	late.epoch = 39
	if err := r.ledger.handle(late); err != errFenced {
		t.Errorf("a handler of an epoch that was fenced off: %v", err)
	}
	if err := r.ledger.handle(delivery{key: "nobody", id: "event-0"}); err != nil || len(r.ledger.strange) != 1 {
		t.Errorf("a message of no case: %v, noted %q", err, r.ledger.strange)
	}
}

func TestAnEarlierRunCounts(t *testing.T) {
	t.Parallel()
	r, b := bench(t)
	b.entries = b.entries[2:]
	b.earlier[0], b.earlier[1] = true, true
	r.verifyBook(b)
	if r.wrong != 0 {
		t.Errorf("what an earlier run handled is missed: %q", r.violations)
	}
	if report := r.report(); report.Duplicates != 2 {
		t.Errorf("%d duplicates", report.Duplicates)
	}
}

func TestARecoveryWaitsForTheReplay(t *testing.T) {
	t.Parallel()
	r, _ := bench(t)
	if r.ledger.recovering("case 0", 50) != nil {
		t.Error("a recovery that the replay did not begin waits for it")
	}
	r.ledger.opened("case 0")
	over := r.ledger.recovering("case 0", 60)
	select {
	case <-over:
		t.Error("it is over before it is")
	default:
	}
	r.ledger.over("case 0")
	<-over
	r.ledger.over("case 0") // a second time is harmless
}
