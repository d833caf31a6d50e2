package main

import (
	"github.com/spf13/cobra"

	"sluice/client"
)

// target is the instance that a command is about: APP/KEY, or --app and --instance.
type target struct{ app, key string }

// flags lets the instance be given by flags, too: a key may hold anything.
func (t *target) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.app, "app", "", "application of the instance")
	cmd.Flags().StringVar(&t.key, "instance", "", "key of the instance within its application")
}

// take reads the instance from the arguments and the flags.
func (t *target) take(args []string) error {
	if len(args) == 1 {
		if t.app != "" || t.key != "" {
			return usagef("give the instance as APP/KEY or by --app and --instance, not both")
		}
		id, err := client.ParseInstanceID(args[0])
		if err != nil {
			return usagef("%q is no instance: it is written APP/KEY, as in orders/4711; APP is [a-z0-9][a-z0-9._-]{0,62}, KEY 1 to 256 bytes", args[0])
		}
		t.app, t.key = id.Application, id.Key
		return nil
	}
	if t.app == "" || t.key == "" {
		return usagef("which instance? give it as APP/KEY, as in orders/4711, or by --app and --instance")
	}
	return nil
}

func (t *target) String() string { return t.app + "/" + t.key }

// onInstance makes a command about one instance.
func onInstance(use, short, example string, run func(*cobra.Command, target) error) *cobra.Command {
	var at target
	c := &cobra.Command{Use: use + " APP/KEY", Short: short, Example: example, Args: cobra.MaximumNArgs(1)}
	at.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := at.take(args); err != nil {
			return err
		}
		return run(cmd, at)
	}
	return c
}
