package sim

import (
	"errors"
	"flag"
	"testing"

	"sluice/jepsen/scenario"
	"sluice/jepsen/world"
)

var (
	faults = flag.String("sim.faults", "", "kinds of faults in place of the seed's mixture, with commas between; what comes all the time stays; none: a calm run")
	hit    = flag.String("sim.shape", "", "with -sim.faults: whom they hit: leader, one, quorum or all")
	span   = flag.Duration("sim.time", 0, "how long there are faults, in virtual time; 0: what the mixture says")
	quiet  = flag.Duration("sim.quiet", 0, "how long the cluster has to take a message and to settle all once the faults are over; 0: the standard")
)

// asked is a play as the flags change it.
func asked(t *testing.T, p Play) Play {
	if *faults != "" {
		kinds, err := world.ParseKinds(*faults)
		if err = errors.Join(err, world.CheckShape(*hit)); err != nil {
			t.Fatal(err)
		}
		p.Scenario.Name, p.Scenario.Faults, p.Scenario.Shape = "asked", kinds, *hit
	}
	if *span > 0 {
		p.Scenario.Time = *span
	}
	if *quiet > 0 {
		p.Quiet = scenario.Quiet{Write: *quiet, Drain: *quiet}
	}
	return p
}
