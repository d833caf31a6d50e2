package check

import (
	"time"

	"sluice/api/reason"
	"sluice/client"
	"sluice/jepsen/history"
	"sluice/jepsen/world"
)

// budgetMost is how long a client of a run goes on with one call.
const budgetMost = 10 * time.Second

// Certificates holds that nobody was let in whose certificate must not be believed, and that no message that was sent
// while certificates were replaced, and nothing else was hurt, was lost on the way.
func Certificates(c *Case) (out []Violation) {
	for _, m := range c.Marks {
		if m.Value.Name == history.Admitted {
			out = append(out, violation("certificates", "at %.1fs: %s", m.At.Seconds(), m.Value.Text))
		}
	}
	rotations, others := c.faultSpans()[string(world.CertRotation)], c.disturbed(world.CertRotation)
	over, ended := c.Marked(history.FaultsOver)
	for _, o := range c.Operations {
		switch {
		case o.What != history.Send || !rotations.overlaps(o.Call, o.Call) || others.overlaps(o.Call, o.Call+budgetMost):
		case !ended || o.Call > over-budgetMost: // it was given up when the faults ended
		case o.Result == history.Unknown || o.Result == history.Fail && passing(o.Answer.Reason):
			out = append(out, violation("certificates", "%s was lost while certificates were replaced: %s", o.ID, o.Answer.Error))
		}
	}
	return out
}

// passing tells a refusal that says nothing of the message.
func passing(why string) bool {
	return why == string(client.ErrUnreachable) || why == string(reason.NoLeader)
}

// Members holds that no node left the cluster that nobody had removed.
func Members(c *Case) (out []Violation) {
	for _, m := range c.Marks {
		if m.Value.Name == history.Expelled {
			out = append(out, violation("members", "at %.1fs: %s", m.At.Seconds(), m.Value.Text))
		}
	}
	return out
}
