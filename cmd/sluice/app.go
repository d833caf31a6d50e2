package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

func newApp(sh *shell) *cobra.Command {
	return group("app", "Declare applications, and turn whole applications to recovery and back",
		"  sluice app apply -f orders.yaml\n  sluice app list\n  sluice app recover orders --cause 'the warehouse is down'\n  sluice app hold orders --prefix eu- --cause 'EU stock count' --wait",
		newAppApply(sh), newAppGet(sh), newAppList(sh), newAppRecover(sh), newAppComplete(sh), newAppHold(sh), newAppRelease(sh))
}

func newAppApply(sh *shell) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "apply -f FILE", Short: "Create applications or replace their declarations", Args: noArgs,
		Long: `Reads one or more applications, YAML or JSON, from a file (- is standard input) and applies each. Fields are those of
the public contract; what it does not know is refused, before anything is applied. Enum values may be written short (suitable: recovery), durations
as in 90s or 24h.`,
		Example: `  sluice app apply -f orders.yaml
  sluice app apply -f - <<'END'
  name: orders
  delivery: {window: 8, on_max_attempts: recover}
  patterns:
    - name: order
      types:
        - {name: order.placed, opens: true, after: [""]}
        - {name: order.changed, after: [order.placed, order.changed]}
        - {name: order.reconciled, suitable: recovery}
  END`,
	}
	c.Flags().StringVarP(&file, "file", "f", "", "file with the declarations; - is standard input")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if file == "" {
			return usagef("which file? give it with -f FILE")
		}
		declared, err := sh.readDeclarations(file)
		if err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			return sh.applyAll(ctx, c, declared)
		})
	}
	return c
}

// applyAll applies declarations one after the other. If one is refused, those before it stand, and it is said which.
func (sh *shell) applyAll(ctx context.Context, c *client.Client, declared []*sluicev1.Application) error {
	var answers []*sluicev1.Application
	for n, a := range declared {
		answer, err := client.Call[sluicev1.Application, sluicev1.Application](ctx, c, sluicev1connect.ApplicationServiceApplyProcedure, a)
		if err == nil {
			answers = append(answers, answer)
			continue
		}
		err = fmt.Errorf("apply %q: %w", a.GetName(), err)
		if len(declared) == 1 {
			return err
		}
		if n > 0 {
			if err := sh.printApplications(answers); err != nil {
				return err
			}
		}
		sh.say("applied: %s; not applied: %s", applicationNames(declared[:n]), applicationNames(declared[n:]))
		return err
	}
	return sh.printApplications(answers)
}

func applicationNames(all []*sluicev1.Application) string {
	if len(all) == 0 {
		return "none"
	}
	var names []string
	for _, a := range all {
		names = append(names, a.GetName())
	}
	return strings.Join(names, ", ")
}

// readDeclarations reads the applications of a file.
func (sh *shell) readDeclarations(file string) ([]*sluicev1.Application, error) {
	const most = 4 << 20
	text, err := sh.readWhole(file, most)
	if err != nil {
		return nil, fmt.Errorf("read declarations: %w", err)
	}
	declared, err := parseDeclarations(text)
	if err != nil {
		return nil, hint(fmt.Errorf("%s: %w", inputName(file), err), "see an example with: sluice app apply --help")
	}
	return declared, nil
}

// withClient runs a short command with a client and within --timeout.
func (sh *shell) withClient(cmd *cobra.Command, run func(context.Context, *client.Client) error) error {
	ctx, cancel := sh.bounded(cmd.Context())
	defer cancel()
	c, err := sh.link(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return run(ctx, c)
}

var applicationHead = []string{"NAME", "VERSION", "PATTERNS", "NORMAL", "RECOVERY", "DRAINING", "DEFERRED"}

func (sh *shell) printApplications(all []*sluicev1.Application) error {
	if len(all) == 1 && sh.output == "json" {
		return sh.writeJSON(all[0])
	}
	return list(sh, &sluicev1.ListApplicationsResponse{Applications: all}, all, applicationHead, func(t *table, a *sluicev1.Application) {
		n := a.GetCounts()
		t.row(a.GetName(), a.GetVersion(), len(a.GetPatterns()), n.GetNormal(), n.GetRecovery(), n.GetDraining(), n.GetDeferredMessages())
	})
}

func newAppGet(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "get APP", Short: "Show an application: its declaration, and its instances by mode", Args: cobra.ExactArgs(1),
		Example: "  sluice app get orders\n  sluice app get orders -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				a, err := getApplication(ctx, c, args[0])
				if err != nil {
					return err
				}
				return sh.answer(a, func(t *table) { sh.fillApplication(t, a) })
			})
		},
	}
}

func getApplication(ctx context.Context, c *client.Client, name string) (*sluicev1.Application, error) {
	return ask[sluicev1.GetApplicationRequest, sluicev1.Application](ctx, c, sluicev1connect.ApplicationServiceGetProcedure, &sluicev1.GetApplicationRequest{Name: name})
}

func (sh *shell) fillApplication(t *table, a *sluicev1.Application) {
	fillApplicationModes(t, a)
	fillSettings(t, a)
	t.row("held after", heldAfter(a))
	t.row("outage", outageText(a.GetSupervision()))
	sh.fillApplicationRecovery(t, a)
	for _, p := range a.GetPatterns() {
		for _, m := range p.GetTypes() {
			t.row("type", fmt.Sprintf("%s of %s: suitable %s%s", m.GetName(), p.GetName(), firstOf(word(m.GetSuitable()), "normal"), whereInTransaction(m)))
		}
	}
}

// fillApplicationModes shows an application's instances by mode.
func fillApplicationModes(t *table, a *sluicev1.Application) {
	n := a.GetCounts()
	t.row("name", a.GetName())
	t.row("version", a.GetVersion())
	t.row("normal", n.GetNormal())
	t.row("recovery", n.GetRecovery())
	t.row("draining", n.GetDraining())
	t.row("deferred", fmt.Sprintf("%d (%s)", n.GetDeferredMessages(), size(n.GetDeferredBytes())))
}

// heldAfter says after how long a recovery is told of.
func heldAfter(a *sluicev1.Application) string {
	switch d := a.GetSupervision().GetHeldAfter(); {
	case d == nil:
		return "10m0s (default)"
	case d.AsDuration() == 0:
		return "never"
	default:
		return d.AsDuration().String()
	}
}

// outageText says when failures are an outage.
func outageText(s *sluicev1.Supervision) string {
	if s != nil && s.OutageInstances != nil && s.GetOutageInstances() == 0 {
		return "never declared"
	}
	return fmt.Sprintf("declared at %s instances that fail alike within %s",
		orDefaultText(s.GetOutageInstances() > 0, s.GetOutageInstances(), "100 (default)"), orDefaultText(s.GetOutageWindow() != nil, s.GetOutageWindow().AsDuration(), "1m0s (default)"))
}

// fillApplicationRecovery shows the last entry of the whole application into recovery, and whether it is surely over.
func (sh *shell) fillApplicationRecovery(t *table, a *sluicev1.Application) {
	r := a.GetRecovery()
	if r == nil {
		return
	}
	since := fmt.Sprintf("%s, %s ago", cell(r.GetTime()), sh.since(r.GetTime()))
	if a.GetCounts().GetRecovery() == 0 {
		since += "; no instance is in recovery any more"
	}
	t.row("entered recovery", since)
	t.row("cause", r.GetCause())
	t.row("by", r.GetActor())
	if o := r.GetOutage(); o != nil {
		t.row("failed alike", fmt.Sprintf("%d instances since %s, fingerprint %s", o.GetInstances(), cell(o.GetFirstTime()), o.GetFingerprint()))
		t.row("error", o.GetError())
	}
}

func orDefaultText(set bool, value any, otherwise string) string {
	if set {
		return fmt.Sprint(value)
	}
	return otherwise
}

// whereInTransaction says where in its transaction a type may stand.
func whereInTransaction(m *sluicev1.MessageType) string {
	var text string
	if m.GetOpens() {
		text += ", opens"
	}
	if m.GetCloses() {
		text += ", closes"
	}
	if len(m.GetAfter()) > 0 {
		text += fmt.Sprintf(", after %q", m.GetAfter())
	}
	return text
}

func newAppList(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the applications with their instances by mode", Args: noArgs,
		Example: "  sluice app list\n  sluice app list -o jsonl",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				all, err := ask[sluicev1.ListApplicationsRequest, sluicev1.ListApplicationsResponse](ctx, c, sluicev1connect.ApplicationServiceListProcedure, &sluicev1.ListApplicationsRequest{})
				if err != nil {
					return err
				}
				return list(sh, all, all.GetApplications(), applicationHead, func(t *table, a *sluicev1.Application) {
					n := a.GetCounts()
					t.row(a.GetName(), a.GetVersion(), len(a.GetPatterns()), n.GetNormal(), n.GetRecovery(), n.GetDraining(), n.GetDeferredMessages())
				})
			})
		},
	}
}

func newAppRecover(sh *shell) *cobra.Command {
	var cause, requestID string
	c := &cobra.Command{
		Use: "recover APP", Short: "Put every instance of an application into recovery, at once", Args: cobra.ExactArgs(1),
		Example: "  sluice app recover orders --cause 'the warehouse is down'",
	}
	c.Flags().StringVar(&cause, "cause", "operator", "why; it stands in every instance's history")
	requestIDFlag(c, &requestID)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			req := &sluicev1.EnterApplicationRecoveryRequest{Application: args[0], Cause: cause, RequestId: orNewID(&requestID)}
			a, err := client.Call[sluicev1.EnterApplicationRecoveryRequest, sluicev1.Application](ctx, c, sluicev1connect.ApplicationServiceEnterRecoveryProcedure, req)
			if err != nil {
				return repeatable(err, "request-id", requestID)
			}
			return sh.answer(a, func(t *table) {
				fillApplicationModes(t, a)
				sh.fillApplicationRecovery(t, a)
			})
		})
	}
	return c
}

// requestIDFlag lets a change be repeated without a second effect.
func requestIDFlag(c *cobra.Command, into *string) {
	c.Flags().StringVar(into, "request-id", "", "name of this change: repeated under the same one it has no second effect (default: a new one)")
}

// orNewID fills an id in that the user did not give.
func orNewID(id *string) string {
	if *id == "" {
		*id = client.NewID()
	}
	return *id
}

// repeatable says, when the outcome is unknown, how to repeat the command under the id that it used.
func repeatable(err error, flag, id string) error {
	switch {
	case connectCode(err) == unknownCode:
		return hint(err, "repeat the same command with --%s %s: it has no second effect", flag, id)
	case errors.Is(err, client.ErrIDReused) && flag != "id":
		return hint(err, "the request id was used for another change: give a new --request-id, or none; or repeat just what was asked for then")
	}
	return err
}
