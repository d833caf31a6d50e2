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

func newDeadLetters(sh *shell) *cobra.Command {
	return group("deadletters", "See dead letters over a whole application, and put them back",
		"  sluice deadletters groups --app orders\n  sluice deadletters list --app orders --fingerprint 6f1d…\n  sluice deadletters put-back --app orders --fingerprint 6f1d… --reason 'the parser is mended'",
		newDeadLettersList(sh), newDeadLettersGroups(sh), newDeadLettersPutBack(sh), newDeadLettersExport(sh))
}

// selection says which dead letters a command is about.
type selection struct{ app, key, prefix, fingerprint string }

func (s *selection) flags(c *cobra.Command) {
	s.placeFlags(c)
	c.Flags().StringVar(&s.fingerprint, "fingerprint", "", "only those that failed alike, as groups shows it")
}

// placeFlags are those that say where the dead letters lie.
func (s *selection) placeFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.app, "app", "", "application (required)")
	f.StringVar(&s.key, "instance", "", "only those of this instance")
	f.StringVar(&s.prefix, "prefix", "", "only those of instances whose keys begin so")
}

func (s *selection) check() error {
	switch {
	case s.app == "":
		return usagef("which application? give it with --app APP")
	case s.key != "" && s.prefix != "":
		return usagef("--instance and --prefix: one of them")
	}
	return nil
}

// where names what the selection is narrowed down to; empty: nothing narrower than the application.
func (s *selection) where() string {
	switch {
	case s.key != "":
		return s.app + "/" + s.key
	case s.prefix != "":
		return "the instances " + s.app + "/" + s.prefix + "…"
	}
	return ""
}

func (s *selection) request() *sluicev1.ListDeadLettersRequest {
	return &sluicev1.ListDeadLettersRequest{Application: s.app, Instance: s.key, Prefix: s.prefix, Fingerprint: s.fingerprint, PageSize: 1000}
}

// deadLetters hands dead letters to take, page by page, until it has enough.
func deadLetters(ctx context.Context, c *client.Client, req *sluicev1.ListDeadLettersRequest, take func(*sluicev1.ListDeadLettersResponse) (more bool)) error {
	for {
		page, err := ask[sluicev1.ListDeadLettersRequest, sluicev1.ListDeadLettersResponse](ctx, c, sluicev1connect.InstanceServiceListDeadLettersProcedure, req)
		if err != nil {
			return err
		}
		req.PageToken = page.GetNextPageToken()
		if !take(page) || req.PageToken == "" {
			return nil
		}
	}
}

func newDeadLettersList(sh *shell) *cobra.Command {
	var (
		s     selection
		limit int
	)
	c := &cobra.Command{
		Use: "list --app APP", Short: "List dead letters, by instance and sequence number", Args: noArgs,
		Example: "  sluice deadletters list --app orders\n  sluice deadletters list --app orders --prefix eu- -o jsonl\n  sluice instance peek orders/4711 --dead --seq 17    # one of them, with its content",
	}
	s.flags(c)
	c.Flags().IntVar(&limit, "limit", 1000, "at most so many; 0 is all")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			whole := &sluicev1.ListDeadLettersResponse{}
			err := deadLetters(ctx, c, s.request(), func(page *sluicev1.ListDeadLettersResponse) bool {
				whole.DeadLetters = append(whole.DeadLetters, page.GetDeadLetters()...)
				whole.NextPageToken = page.GetNextPageToken()
				return limit <= 0 || len(whole.DeadLetters) < limit
			})
			if err != nil {
				return err
			}
			return sh.listDeadLetters(whole, limit)
		})
	}
	return c
}

func (sh *shell) listDeadLetters(whole *sluicev1.ListDeadLettersResponse, limit int) error {
	more := whole.NextPageToken != ""
	if limit > 0 && len(whole.DeadLetters) > limit {
		whole.DeadLetters, more = whole.DeadLetters[:limit], true
	}
	head := []string{"INSTANCE", "SEQ", "LANE", "TYPE", "ID", "TIME", "ATTEMPTS", "FINGERPRINT", "REASON", "LAST ERROR"}
	err := list(sh, whole, whole.GetDeadLetters(), head, func(t *table, d *sluicev1.DeadLettered) {
		m := d.GetMessage()
		t.row(d.GetInstance(), m.GetSeq(), m.GetLane(), m.GetMessage().GetType(), m.GetMessage().GetId(), m.GetDeadLetter().GetTime(),
			m.GetAttempts(), m.GetDeadLetter().GetFingerprint(), m.GetDeadLetter().GetReason(), m.GetDeadLetter().GetLastError())
	})
	if err == nil && more {
		sh.say("there are more than %d; see them with --limit 0", limit)
	}
	return err
}

func newDeadLettersGroups(sh *shell) *cobra.Command {
	var s selection
	c := &cobra.Command{
		Use: "groups --app APP", Short: "Count the dead letters that failed alike, the largest group first", Args: noArgs,
		Example: "  sluice deadletters groups --app orders\n  sluice deadletters groups --app orders --prefix eu-",
	}
	s.placeFlags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return err
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			found, err := ask[sluicev1.GroupDeadLettersRequest, sluicev1.GroupDeadLettersResponse](ctx, c, sluicev1connect.InstanceServiceGroupDeadLettersProcedure,
				&sluicev1.GroupDeadLettersRequest{Application: s.app, Instance: s.key, Prefix: s.prefix})
			if err != nil {
				return err
			}
			head := []string{"FINGERPRINT", "COUNT", "FIRST", "LAST", "REASON", "SAMPLE ERROR", "INSTANCES"}
			err = list(sh, found, found.GetGroups(), head, func(t *table, g *sluicev1.DeadLetterGroup) {
				t.row(g.GetFingerprint(), g.GetCount(), g.GetFirstTime(), g.GetLastTime(), g.GetReason(), g.GetSampleError(), fewOf(g.GetInstances(), 3))
			})
			if err == nil && found.GetTruncated() {
				sh.say("there are more dead letters than the %d that were looked at; narrow it down with --prefix", found.GetLookedAt())
			}
			return err
		})
	}
	return c
}

// fewOf names the first ones, and tells that there are more.
func fewOf(names []string, most int) string {
	if len(names) > most {
		return strings.Join(names[:most], " ") + " …"
	}
	return strings.Join(names, " ")
}

// puttingBack is "deadletters put-back" at work.
type puttingBack struct {
	sh   *shell
	c    *client.Client
	t    *table
	back int // put back at once
	wait int // waiting
	not  int // refused
}

func newDeadLettersPutBack(sh *shell) *cobra.Command {
	var (
		s    selection
		lane string
		seqs []uint
		req  sluicev1.PutBackRequest
	)
	c := &cobra.Command{
		Use: "put-back --app APP", Short: "Return dead letters to their old place in their instances' inboxes", Args: noArgs,
		Long: `Revokes that messages were dead-lettered: they are unsettled again, under their old id and sequence number. In recovery they
stand at their old place at once; otherwise they come first as soon as what is out with a worker is settled ("waiting").`,
		Example: "  sluice deadletters put-back --app orders --instance 4711 --seq 17 --seq 19 --reason 'the parser is mended'\n  sluice deadletters put-back --app orders --fingerprint 6f1d… --reason 'the parser is mended'",
	}
	s.flags(c)
	f := c.Flags()
	f.UintSliceVar(&seqs, "seq", nil, "sequence number of a dead letter, with --instance; may be given more than once")
	f.StringVar(&lane, "lane", "normal", "lane of the dead letters: normal, or recovery")
	f.StringVar(&req.Reason, "reason", "operator", "why; it stands with the messages")
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if err := s.check(); err != nil {
			return err
		}
		if (len(seqs) > 0) == (s.fingerprint != "") || len(seqs) > 0 && s.key == "" {
			return usagef("which dead letters? give --instance KEY --seq N, or --fingerprint F, as groups and list show them")
		}
		if req.Lane, err = enum[sluicev1.Lane](lane, "--lane"); err != nil {
			return err
		}
		req.Application, req.Fingerprint = s.app, s.fingerprint
		for _, n := range seqs {
			req.Seqs = append(req.Seqs, uint64(n))
		}
		return sh.withClient(cmd, func(ctx context.Context, c *client.Client) error {
			p := &puttingBack{sh: sh, c: c, t: &table{head: []string{"INSTANCE", "SEQ", "ID", "NOW", "ERROR"}}}
			return p.run(ctx, &s, &req)
		})
	}
	return c
}

// run puts back in one instance, or in each that has dead letters of the fingerprint. What became of those before an error
// is printed, too: it took effect.
func (p *puttingBack) run(ctx context.Context, s *selection, req *sluicev1.PutBackRequest) error {
	var err error
	if s.key != "" {
		err = p.one(ctx, s.key, req)
	} else {
		err = p.all(ctx, s, req)
	}
	if p.back+p.wait+p.not == 0 && err != nil {
		return err
	}
	if p.back+p.wait+p.not == 0 {
		none := &client.Error{Code: client.ErrUnknownMessage.Code(), Message: fmt.Sprintf("no dead letter in the %s lane of %s has fingerprint %s: nothing was put back", word(req.Lane), firstOf(s.where(), "application "+s.app), s.fingerprint)}
		return hint(none, "see which there are: sluice deadletters groups --app %s", s.app)
	}
	if p.sh.output == "table" {
		err = errors.Join(err, p.t.write(p.sh.out, p.sh.colored()))
	}
	p.sh.say("put back %d, waiting until what is out is settled %d, refused %d", p.back, p.wait, p.not)
	if err == nil && p.not > 0 {
		return quiet(exitPrecondition)
	}
	return err
}

// all puts back page by page: what is put back leaves the list before the place where its next page begins. An instance
// that refuses, such as one that was terminated, does not keep the others from it.
func (p *puttingBack) all(ctx context.Context, s *selection, req *sluicev1.PutBackRequest) (err error) {
	last := ""
	listed := deadLetters(ctx, p.c, s.request(), func(page *sluicev1.ListDeadLettersResponse) bool {
		for _, d := range page.GetDeadLetters() {
			if d.GetMessage().GetLane() != req.Lane || d.GetInstance() == last {
				continue
			}
			last = d.GetInstance()
			if err = p.one(ctx, last, req); err != nil && !p.refusedBy(last, err) {
				return false
			}
			err = nil
		}
		return true
	})
	return errors.Join(err, listed)
}

// refusedBy counts an error that is an instance's refusal, and tells whether it is one.
func (p *puttingBack) refusedBy(key string, err error) bool {
	if code := codes[connectCode(err)]; code != exitPrecondition && code != exitNotFound {
		return false
	}
	p.not++
	p.t.row(key, "", "", "refused", err.Error())
	if p.sh.output != "table" {
		p.sh.say("%v", err)
	}
	return true
}

// one puts back in one instance, until nothing of the fingerprint is left or something is refused.
func (p *puttingBack) one(ctx context.Context, key string, req *sluicev1.PutBackRequest) error {
	req.Instance = key
	for {
		req.RequestId = client.NewID()
		answer, err := client.Call[sluicev1.PutBackRequest, sluicev1.PutBackResponse](ctx, p.c, sluicev1connect.InstanceServicePutBackProcedure, req)
		if err != nil {
			return fmt.Errorf("put back in %s/%s: %w", req.Application, req.Instance, err)
		}
		refused := p.not
		for _, r := range answer.GetResults() {
			now := "put back"
			switch {
			case r.GetError() != nil:
				now = "dead letter"
				p.not++
			case r.GetWaiting():
				now = "waiting"
				p.wait++
			default:
				p.back++
			}
			p.t.row(req.Instance, r.GetSeq(), r.GetMessageId(), now, r.GetError().GetMessage())
		}
		if p.sh.output != "table" {
			if err := p.sh.writeJSON(answer); err != nil {
				return err
			}
		}
		if !answer.GetMore() || p.not > refused {
			return nil
		}
	}
}
