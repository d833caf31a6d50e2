package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
	"sluice/client"
)

// following says which events are shown.
type following struct {
	application, instance, since string
	types                        []string
	follow, fromNow              bool
}

func newEvents(sh *shell) *cobra.Command {
	var w following
	c := &cobra.Command{
		Use: "events", Short: "Show what happened in the cluster, and follow what happens", Args: noArgs,
		Long: `Shows the events that the cluster keeps, the oldest first: recoveries, messages that were deferred, repeated, expired,
dead-lettered or changed by hand, sessions, operations, leaders. Normal traffic makes none. With -f it goes on with what
happens, over the loss of nodes, until it is interrupted. The column AT is a place to go on from with --since.

Types: ` + wrap(eventTypeNames(), 118, "       "),
		Example: `  sluice events
  sluice events -f --from-now
  sluice events --instance orders/4711
  sluice events --app orders --type recovery-entered,held-too-long -f
  sluice events --since 1042 -o jsonl`,
	}
	f := c.Flags()
	f.BoolVarP(&w.follow, "follow", "f", false, "go on with what happens")
	f.StringVar(&w.application, "app", "", "only what concerns this application")
	f.StringVar(&w.application, "application", "", "what --app was called before")
	_ = f.MarkHidden("application") // it was just defined
	f.StringVar(&w.instance, "instance", "", "only what concerns this instance, APP/KEY, what its application did as a whole included")
	f.StringSliceVar(&w.types, "type", nil, "only events of these types, separated by commas")
	f.StringVar(&w.since, "since", "", "only events after this log index, or place in it (INDEX or INDEX.PLACE)")
	f.BoolVar(&w.fromNow, "from-now", false, "with -f: nothing that happened before")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		req, err := w.request()
		if err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			if err := sh.watchable(ctx, c, req); err != nil {
				return err
			}
			if w.follow {
				patient, cancel := sh.patient(cmd.Context())
				defer cancel()
				ctx = patient
			}
			return sh.showEvents(ctx, c, req)
		})
	}
	return c
}

// existsWithin is how long a leader has to say whether what is watched exists.
const existsWithin = time.Second

// errNothingYet is a place from which on nothing has happened.
var errNothingYet = errors.New("nothing has happened there yet")

// watchable refuses to look for what cannot be there: events of what does not exist, and without -f those behind the
// end of the log.
func (sh *shell) watchable(ctx context.Context, c *client.Client, req *sluicev1.WatchRequest) error {
	if req.GetApplication() != "" {
		if err := exists(ctx, c, req); err != nil {
			return err
		}
	}
	if !req.GetUntilNow() || req.GetSinceIndex() == 0 {
		return nil
	}
	end, err := presentIndex(ctx, c)
	if err == nil && req.GetSinceIndex() > end {
		err = hint(fmt.Errorf("--since %d: %w, the log ends at %d", req.GetSinceIndex(), errNothingYet, end), "wait for what comes with -f, or begin earlier")
	}
	return err
}

// exists looks for the instance or the application that a watch is about. Where there is no leader to say, it may exist: events
// are read at a node alone.
func exists(ctx context.Context, c *client.Client, req *sluicev1.WatchRequest) (err error) {
	ctx, cancel := context.WithTimeout(ctx, existsWithin)
	defer cancel()
	if req.GetInstance() != "" {
		_, err = getInstance(ctx, c, target{req.GetApplication(), req.GetInstance()}, false)
	} else {
		_, err = ask[sluicev1.GetApplicationRequest, sluicev1.Application](ctx, c, sluicev1connect.ApplicationServiceGetProcedure, &sluicev1.GetApplicationRequest{Name: req.GetApplication()})
	}
	if connectCode(err) == client.ErrNoLeader.Code() && !misfit(err) {
		return nil
	}
	return err
}

// eventTypeNames are the types of events as people write them.
func eventTypeNames() (names []string) {
	for n := range len(sluicev1.EventType_name) {
		if name := word(sluicev1.EventType(n)); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// wrap writes words in lines of some width, with a margin from the second line on.
func wrap(words []string, width int, margin string) string {
	var b strings.Builder
	column := len(margin)
	for i, w := range words {
		if i > 0 {
			b.WriteString(",")
			if column += len(w) + 2; column > width {
				b.WriteString("\n" + margin)
				column = len(margin) + len(w)
			} else {
				b.WriteString(" ")
			}
		} else {
			column += len(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

// request is what the flags ask for.
func (w *following) request() (*sluicev1.WatchRequest, error) {
	req := &sluicev1.WatchRequest{Application: w.application, FromNow: w.fromNow, UntilNow: !w.follow}
	switch {
	case w.fromNow && !w.follow:
		return nil, usagef("--from-now: of what happens from now on nothing is there yet; follow it with -f")
	case w.fromNow && w.since != "":
		return nil, usagef("--from-now and --since: give one of them")
	}
	if w.instance != "" {
		id, err := client.ParseInstanceID(w.instance)
		if err != nil {
			return nil, usagef("--instance %q: an instance is written APP/KEY, as in orders/4711", w.instance)
		}
		if w.application != "" && w.application != id.Application {
			return nil, usagef("--app %s and --instance %s name two applications", w.application, w.instance)
		}
		req.Application, req.Instance = id.Application, id.Key
	}
	for _, name := range w.types {
		t, ok := sluicev1.EventType_value["EVENT_"+strings.ToUpper(strings.ReplaceAll(strings.TrimSpace(name), "-", "_"))]
		if !ok || t == 0 {
			return nil, usagef("--type %s: there is no such event; the types are %s", name, strings.Join(eventTypeNames(), ", "))
		}
		req.Types = append(req.Types, sluicev1.EventType(t))
	}
	return req, w.begin(req)
}

// begin reads the place to begin behind.
func (w *following) begin(req *sluicev1.WatchRequest) (err error) {
	if w.since == "" {
		return nil
	}
	index, place, within := strings.Cut(w.since, ".")
	if req.SinceIndex, err = strconv.ParseUint(index, 10, 64); err == nil && within {
		n, wrong := strconv.ParseUint(place, 10, 32)
		p := uint32(n)
		req.SincePlace, err = &p, wrong
	}
	if err != nil || within && req.SinceIndex == 0 {
		return usagef("--since %s: want a log index, or a place in it, as in 1042 or 1042.3", w.since)
	}
	return nil
}

// showEvents prints events as they come. That the user ends it is its good end.
func (sh *shell) showEvents(ctx context.Context, c *client.Client, req *sluicev1.WatchRequest) error {
	if sh.output == "table" {
		fmt.Fprintf(sh.out, eventLine, "AT", "TIME", "TYPE", "INSTANCE", "MESSAGE", "DETAIL")
	}
	for res, err := range c.WatchResponses(ctx, req) {
		switch {
		case err != nil && ctx.Err() != nil && !req.GetUntilNow():
			return nil
		case err != nil:
			return watchFailed(err)
		case res.GetEvent() == nil:
			continue
		}
		if err := sh.printEvent(res.GetEvent()); err != nil {
			return err
		}
	}
	return nil
}

// watchFailed says of a watch that was given up that no answer came: nothing else was to be done.
func watchFailed(err error) error {
	var e *client.Error
	if errors.As(err, &e) && e.Code == "canceled" {
		return &client.Error{Code: client.ErrNoLeader.Code(), Reason: client.ErrNoLeader, Message: "no answer in time: " + e.Message, Node: e.Node}
	}
	return err
}

const eventLine = "%-8s  %-20s  %-21s  %-20s  %-16s  %s\n"

func (sh *shell) printEvent(e *sluicev1.Event) error {
	if sh.output != "table" {
		return sh.writeJSON(e)
	}
	instance := e.GetApplication()
	if e.GetInstance() != "" {
		instance += "/" + e.GetInstance()
	}
	at := fmt.Sprintf("%d.%d", e.GetIndex(), e.GetPlace())
	_, err := fmt.Fprintf(sh.out, eventLine, at, cell(e.GetTime()), word(e.GetType()), cell(instance), cell(e.GetMessageId()), cell(eventText(e)))
	return err
}

// eventText says what the columns of an event do not.
func eventText(e *sluicev1.Event) string {
	switch o := e.GetOperation(); {
	case o != nil:
		return fmt.Sprintf("%s %s is %s: %d of %d done, %d passed over", o.GetKind(), o.GetId(), word(o.GetState()), o.GetDone(), o.GetTotal(), o.GetPassedOver())
	case e.GetNodeId() != "":
		return fmt.Sprintf("%s leads, term %d", e.GetNodeId(), e.GetTerm())
	case e.GetSessionId() != "":
		return strings.TrimSpace(e.GetSessionId() + " " + e.GetDetail())
	case e.GetDeferredMessages() > 0:
		return strings.TrimSpace(fmt.Sprintf("%s (%d held)", e.GetDetail(), e.GetDeferredMessages()))
	}
	return e.GetDetail()
}
