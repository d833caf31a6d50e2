// Command scale is a model of Sluice with many raft groups: a hundred nodes in five zones, a hundred million instances,
// a skewed load. It answers how many groups there should be, how they should be placed, and what a lost node, a lost
// zone, new nodes and a hot instance cost. What one message costs is measured (see parameters); how costs add up is
// computed: flows by their means, elections and transfers event by event. The same seed gives the same output.
//
// docs/adr/0030-past-one-raft-group.md says what was decided by it, and what it leaves out.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// section is one part of the output.
type section struct {
	name  string
	print func(io.Writer, *model) error
}

var sections = []section{
	{"parameters", printParameters},
	{"balance", printBalance},
	{"skew", printSkew},
	{"beats", printBeats},
	{"memory", printMemory},
	{"syncs", printSyncs},
	{"failover", printFailover},
	{"repair", printRepair},
	{"growth", printGrowth},
	{"hot", printHot},
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	var names []string
	for _, s := range sections {
		names = append(names, s.name)
	}
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	seed := flags.Uint64("seed", 1, "where chance begins")
	only := flags.String("only", strings.Join(names, ","), "what to print, set apart by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("argument %q: there are only flags", flags.Arg(0))
	}
	chosen := strings.Split(*only, ",")
	for _, name := range chosen {
		if !slices.Contains(names, name) {
			return fmt.Errorf("-only: no section is called %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	return show(out, newModel(defaults(), *seed), chosen)
}

// show prints the sections that are chosen.
func show(out io.Writer, m *model, chosen []string) error {
	for _, s := range sections {
		if !slices.Contains(chosen, s.name) {
			continue
		}
		if err := s.print(out, m); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}
