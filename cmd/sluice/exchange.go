package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sluice/client"
)

func newInstanceExport(sh *shell) *cobra.Command {
	var l client.ListMessages
	c := onInstance("export", "Write an instance's unsettled messages, or its dead letters, as JSON lines",
		"  sluice instance export orders/4711 > held.jsonl\n  sluice instance export orders/4711 --dead > dead.jsonl\n  sluice instance import orders/4711 held.jsonl    # into another cluster",
		func(cmd *cobra.Command, at target) error {
			return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
				n, err := c.Instances().Export(ctx, sh.out, client.InstanceID{Application: at.app, Key: at.key}, l)
				return sh.exported(n, err)
			})
		})
	c.Flags().StringVar((*string)(&l.Lane), "lane", "", "only this lane: normal, recovery or outgoing")
	c.Flags().BoolVar(&l.DeadLetters, "dead", false, "the dead letters instead of the unsettled")
	return c
}

func newDeadLettersExport(sh *shell) *cobra.Command {
	var s selection
	c := &cobra.Command{
		Use: "export --app APP", Short: "Write dead letters as JSON lines, to be looked at, mended and imported", Args: noArgs,
		Example: "  sluice deadletters export --app orders --fingerprint 6f1d… > dead.jsonl",
	}
	s.flags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			n, err := c.Instances().ExportDeadLetters(ctx, sh.out, client.ListDeadLetters{Application: s.app, Instance: s.key, Prefix: s.prefix, Fingerprint: s.fingerprint})
			return sh.exported(n, err)
		})
	}
	return c
}

func (sh *shell) exported(n int, err error) error {
	if err != nil {
		return hint(err, "%d messages were written before it; what was written is whole lines", n)
	}
	sh.say("messages written: %d", n)
	return nil
}

func newInstanceImport(sh *shell) *cobra.Command {
	var (
		at   target
		back bool
	)
	c := &cobra.Command{
		Use: "import [APP/KEY] FILE", Short: "Send messages that were exported, in their order, under their ids", Args: cobra.RangeArgs(1, 2),
		Long: `Reads JSON lines that export wrote (- is standard input) and sends the messages, in their order, to an instance. The gate
judges each as any message; ids are kept, so that an import that was broken off is repeated without harm. It ends soon after
the first message that is refused.`,
		Example: "  sluice instance import orders/4711 held.jsonl\n  sluice instance import --to-origin dead.jsonl    # each message to the instance that it names",
	}
	c.Flags().BoolVar(&back, "to-origin", false, "send each message to the instance that it names; no APP/KEY then")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		file := args[len(args)-1]
		switch {
		case back && len(args) == 2:
			return usagef("--to-origin and APP/KEY: one of them")
		case !back && len(args) == 1:
			return usagef("into which instance? give APP/KEY before the file, or --to-origin")
		case !back:
			if err := at.take(args[:1]); err != nil {
				return err
			}
		}
		src, end, err := sh.open(file)
		if err != nil {
			return fmt.Errorf("read messages: %w", err)
		}
		defer end()
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			done, err := c.Instances().Import(ctx, src, client.InstanceID{Application: at.app, Key: at.key})
			return sh.imported(done, err)
		})
	}
	return c
}

func (sh *shell) imported(done client.Imported, err error) error {
	if err == nil && done.Accepted+done.Duplicates+len(done.Refused) == 0 {
		sh.say("0 messages: there is none to import")
		return nil
	}
	sh.say("accepted %d, accepted before %d, refused %d", done.Accepted, done.Duplicates, len(done.Refused))
	if err != nil {
		return err
	}
	if len(done.Refused) > 0 {
		r := done.Refused[0]
		return hint(fmt.Errorf("line %d (%s): %w", r.Line, r.MessageID, r.Err), "mend it, or see to the instance, and import the file again: what was accepted is not accepted twice")
	}
	return nil
}
