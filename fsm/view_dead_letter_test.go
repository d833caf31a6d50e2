package fsm_test

import (
	"slices"
	"strings"
	"testing"

	sluicev1 "sluice/api/sluice/v1"
)

func TestDeadLettersOfAnApplication(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, key := range []string{"eu-1", "eu-2", "us-1"} {
		r.send(key, "a", "b", "c")
		r.bury(key, 1, 3)
		r.own(key, "s-"+key)
		s := taking(r.head(key), outRejected)
		s.ErrorText = "stock " + key[len(key)-1:]
		if v := r.settle("s-"+key, s); v != "" {
			t.Fatal(v)
		}
	}
	list := func(q *sluicev1.ListDeadLettersRequest) (got []string) {
		t.Helper()
		q.Application = "app"
		for {
			out, err := r.m.View().DeadLetters(q)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range out.DeadLetters {
				got = append(got, d.Instance+"/"+d.Message.Message.Id)
			}
			if q.PageToken = out.NextPageToken; q.PageToken == "" {
				return got
			}
		}
	}
	want := func(got []string, want string) {
		t.Helper()
		if strings.Join(got, " ") != want {
			t.Fatalf("want %s, got %v", want, got)
		}
	}
	all := "eu-1/a eu-1/b eu-1/c eu-2/a eu-2/b eu-2/c us-1/a us-1/b us-1/c"
	want(list(&sluicev1.ListDeadLettersRequest{}), all)
	want(list(&sluicev1.ListDeadLettersRequest{PageSize: 2}), all)
	want(list(&sluicev1.ListDeadLettersRequest{Prefix: "eu-"}), "eu-1/a eu-1/b eu-1/c eu-2/a eu-2/b eu-2/c")
	want(list(&sluicev1.ListDeadLettersRequest{Instance: "us-1", PageSize: 1}), "us-1/a us-1/b us-1/c")
	groups, err := r.m.View().DeadLetterGroups(&sluicev1.GroupDeadLettersRequest{Application: "app"})
	if err != nil || len(groups.Groups) != 2 || groups.LookedAt != 9 || groups.Truncated {
		t.Fatal(groups, err)
	}
	if g := groups.Groups[0]; g.Count != 6 || g.Reason != "OPERATOR: bad" || !slices.Equal(g.Instances, []string{"eu-1", "eu-2", "us-1"}) {
		t.Fatal(g)
	}
	stock := groups.Groups[1]
	if stock.Count != 3 || stock.SampleError != "stock 1" {
		t.Fatal(stock)
	}
	want(list(&sluicev1.ListDeadLettersRequest{Fingerprint: stock.Fingerprint}), "eu-1/b eu-2/b us-1/b")
	// One that has none any more is not looked at.
	r.putBack("us-1", false, 1, 2, 3)
	want(list(&sluicev1.ListDeadLettersRequest{Prefix: "us"}), "")
	_, err = r.m.View().DeadLetters(&sluicev1.ListDeadLettersRequest{Application: "app", Instance: "us-1", Prefix: "us"})
	wantReason(t, err, "BAD_FIELD")
	_, err = r.m.View().DeadLetters(&sluicev1.ListDeadLettersRequest{Application: "app", PageToken: "zz"})
	wantReason(t, err, "BAD_FIELD")
	_, err = r.m.View().DeadLetterGroups(&sluicev1.GroupDeadLettersRequest{Application: "none"})
	wantReason(t, err, "UNKNOWN_APPLICATION")
}

// TestPagesAreBoundedByAllTheyHold: a message is as large as it was before it was replaced, too.
func TestPagesAreBoundedByAllTheyHold(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.enter("i")
	const count = 8
	for seq := uint64(1); seq <= count; seq++ {
		r.put(&sluicev1.Message{Application: "app", Instance: "i", Id: string(rune('a' + seq)), Type: "step", Data: make([]byte, 1<<20)})
		r.ok(resolveRequest(&sluicev1.ResolveMessageRequest{Instance: "i", Seq: seq, Lane: laneNormal, Action: replace, Data: []byte("small")}))
	}
	want := func(what string, page func(token string) (n int, next string)) {
		t.Helper()
		pages, listed, token := 0, 0, ""
		for pages == 0 || token != "" {
			n, next := page(token)
			if n > 5 {
				t.Errorf("%s: want at most 4 MiB and one message on a page, got %d of 1 MiB", what, n)
			}
			pages, listed, token = pages+1, listed+n, next
		}
		if listed != count || pages < 2 {
			t.Errorf("%s: want %d on several pages, got %d on %d", what, count, listed, pages)
		}
	}
	want("messages", func(token string) (int, string) {
		out, err := r.m.View().Messages(&sluicev1.ListMessagesRequest{Application: "app", Instance: "i", PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.Messages), out.NextPageToken
	})
	for seq := uint64(1); seq <= count; seq++ {
		r.bury("i", seq)
	}
	want("dead letters", func(token string) (int, string) {
		out, err := r.m.View().DeadLetters(&sluicev1.ListDeadLettersRequest{Application: "app", PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		return len(out.DeadLetters), out.NextPageToken
	})
}
