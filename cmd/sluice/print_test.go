package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/client"
)

func TestTablesAreAlignedAndHarmless(t *testing.T) {
	t.Parallel()
	table := &table{head: []string{"KEY", "MODE"}}
	table.row("a", sluicev1.Mode_MODE_RECOVERY)
	table.row("düne\x1b[2J\n", sluicev1.Mode_MODE_UNSPECIFIED)
	var plain, colored bytes.Buffer
	if err := errors.Join(table.write(&plain, false), table.write(&colored, true)); err != nil {
		t.Fatal(err)
	}
	if want := "KEY        MODE\na          recovery\ndüne.[2J.  -\n"; plain.String() != want {
		t.Errorf("got\n%s", plain.String())
	}
	if !strings.Contains(colored.String(), "\x1b[31mrecovery\x1b[0m") {
		t.Errorf("no colour in %q", colored.String())
	}
}

func TestEnumsAreSaidAsPeopleDo(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		word(sluicev1.Mode_MODE_DRAINING): "draining", word(sluicev1.Status_MESSAGE_STATUS_IN_FLIGHT): "in-flight", word(sluicev1.Mode_MODE_UNSPECIFIED): "",
		word(sluicev1.SettlementKind_SETTLEMENT_DEAD_LETTERED): "dead-lettered", word(sluicev1.OperationState_OPERATION_DONE): "done", word(sluicev1.Mode(99)): "99",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if mode, err := enum[sluicev1.Mode]("Recovery", "--mode"); err != nil || mode != sluicev1.Mode_MODE_RECOVERY {
		t.Errorf("got %v, %v", mode, err)
	}
	if _, err := enum[sluicev1.Mode]("asleep", "--mode"); err == nil || !strings.Contains(err.Error(), "normal, recovery, draining") {
		t.Errorf("got %v", err)
	}
}

func TestEveryErrorHasItsExitCode(t *testing.T) {
	t.Parallel()
	for want, err := range map[int]error{
		exitDone: nil, exitUsage: usagef("x"), exitNotFound: reason.UnknownInstance.Errorf("x"), exitDenied: reason.Denied.Errorf("x"),
		exitUnavailable: &client.Error{Code: "unavailable"}, exitPrecondition: fmt.Errorf("more: %w", reason.NotInRecovery.Errorf("x")),
		exitUnknown: &client.Error{Code: "unknown", Reason: reason.OutcomeUnknown}, exitError: errors.New("x"), 42: quiet(42),
	} {
		sh := &shell{err: io.Discard, started: true}
		if got := sh.report(newVersion(sh), err); got != want {
			t.Errorf("%v: exit %d, want %d", err, got, want)
		}
	}
	sh := &shell{err: io.Discard, started: true}
	for _, err := range []error{reason.BadName.Errorf("x"), reason.LimitDeferredBytes.Errorf("x"), reason.NoIdentity.Errorf("x")} {
		want := map[string]int{"unauthenticated": exitDenied}[connectCode(err)]
		if want == 0 {
			want = exitError
		}
		if got := sh.exitCode(err); got != want {
			t.Errorf("%v: exit %d, want %d", err, got, want)
		}
	}
}

func TestEveryReasonThatAPersonMeetsHasANextStep(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		client.ErrUnreachable, reason.NoLeader, reason.Overloaded, reason.DiskFull, reason.OutcomeUnknown, reason.UnknownApplication, reason.UnknownInstance,
		reason.NotSuitable, reason.PendingRecoveryMessages, reason.LimitDeferredMessages, reason.BadName, reason.IDReused, reason.NotImplemented,
	} {
		if nextStep(fmt.Errorf("more: %w", err)) == "" {
			t.Errorf("%v: nothing is said of what to do next", err)
		}
	}
	var out bytes.Buffer
	sh := &shell{err: &out, started: true}
	sh.report(newVersion(sh), hint(errors.New("two\nlines"), "try %s", "this"))
	if got, want := out.String(), "sluice: two lines\n  next: try this\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheProgressLineFitsTheTerminal(t *testing.T) {
	t.Parallel()
	now := time.Unix(100, 0)
	var out bytes.Buffer
	b := &bar{out: &out, width: 60, name: "draining", begun: now.Add(-2 * time.Second), now: func() time.Time { return now }}
	b.show(50, 200, "recovery, and a long note that cannot fit into the line any more")
	b.clear()
	if got := out.String(); got != "\r\x1b[K"+b.line(50, 200, "recovery, and a long note that cannot fit into the line any more")+"\r\x1b[K" || !strings.Contains(got, "[======                  ]  25%  50/200") {
		t.Errorf("got %q", got)
	}
	if line := b.line(300, 200, strings.Repeat("x", 100)); len(line) != 59 || !strings.Contains(line, "100%") {
		t.Errorf("got %q", line)
	}
	out.Reset()
	(&bar{width: 80}).show(1, 2, "")
	b.show(0, 0, "")
	if out.Len() > 0 {
		t.Errorf("shown where nothing should be: %q", out.String())
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 1 << 62: "4096.0 PiB"} {
		if got := size(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestNamesOfApplications(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{"/x/bpic2013_incidents.xes.gz": "bpic2013_incidents", "Große Liste (2).XES": "gro-e-liste-2-", "._.xes": "replay", strings.Repeat("a", 99): strings.Repeat("a", 63)} {
		if got := applicationName(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	for text, want := range map[string]float64{"10%": 0.1, "0.25": 0.25, "0": 0, "100%": 1} {
		if got, err := parseShare(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "x", "-1%", "101%", "NaN"} {
		if _, err := parseShare(text); err == nil {
			t.Errorf("%q was taken as a share", text)
		}
	}
}
