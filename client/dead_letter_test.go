package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"sluice/client"
	"sluice/client/sluicetest"
)

// collect is all that an iteration gives.
func collect[T any](t *testing.T, seq func(func(T, error) bool)) (all []T) {
	t.Helper()
	for v, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

func resolve(t *testing.T, c *client.Client, key string, r client.ResolveMessage) {
	t.Helper()
	r.Lane = client.LaneNormal
	if _, err := c.Instances().ResolveMessage(t.Context(), client.InstanceID{Application: "app", Key: key}, r); err != nil {
		t.Fatal(err)
	}
}

func held(t *testing.T, c *client.Client, key string) (ids string) {
	t.Helper()
	var all []string
	for _, m := range collect(t, c.Instances().ListMessages(t.Context(), client.InstanceID{Application: "app", Key: key}, client.ListMessages{})) {
		all = append(all, m.Message.ID)
	}
	return strings.Join(all, " ")
}

func TestRealDeadLettersArePutBackToTheirPlace(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	id := client.InstanceID{Application: "app", Key: "i"}
	l := &life{t, c, id}
	l.enter(client.EnterRecovery{Cause: "stock count"})
	for _, m := range []string{"a", "b", "c"} {
		send(t, c, "i", m)
	}
	resolve(t, c, "i", client.ResolveMessage{Seq: 1, Action: client.ActionDeadLetter, Reason: "no stock of 17"})
	resolve(t, c, "i", client.ResolveMessage{Seq: 3, Action: client.ActionDeadLetter, Reason: "no stock of 4"})

	found, err := c.Instances().GroupDeadLetters(t.Context(), client.ListDeadLetters{Application: "app"})
	if err != nil || found.LookedAt != 2 || len(found.Groups) != 1 || found.Groups[0].Count != 2 || !slices.Equal(found.Groups[0].Instances, []string{"i"}) || found.Groups[0].LastTime.IsZero() {
		t.Fatal(found, err)
	}
	alike := found.Groups[0].Fingerprint
	dead := collect(t, c.Instances().ListDeadLetters(t.Context(), client.ListDeadLetters{Application: "app", Fingerprint: alike}))
	if len(dead) != 2 || dead[0].Instance != id || dead[0].Message.ID != "a" || dead[0].DeadLetter.Fingerprint != alike || dead[0].Edits[0].Reason != "no stock of 17" {
		t.Fatal(dead)
	}

	back, err := c.Instances().PutBack(t.Context(), id, client.PutBack{Fingerprint: alike, Reason: "restocked"})
	if err != nil || len(back.Results) != 2 || back.More || back.Results[0].Err != nil || back.Results[0].Waiting || back.Results[1].MessageID != "c" {
		t.Fatal(back, err)
	}
	if got := held(t, c, "i"); got != "a b c" {
		t.Fatal(got)
	}
	again, err := c.Instances().PutBack(t.Context(), id, client.PutBack{Seqs: []client.Seq{1}})
	if err != nil || !errors.Is(again.Results[0].Err, client.ErrUnknownMessage) {
		t.Fatal(again, err)
	}
	if _, err := c.Instances().PutBack(t.Context(), id, client.PutBack{}); !errors.Is(err, client.ErrBadField) {
		t.Fatal(err)
	}

	// The worker that drains meets them in their order; what an operator did is told of a settled message, too.
	handled := make(chan string, 3)
	host(t, c, client.WorkerConfig{Handler: func(_ context.Context, d *client.Delivery) error { handled <- d.Message.ID; return nil }})
	l.complete(client.CompleteRecovery{})
	for _, want := range []string{"a", "b", "c"} {
		if got := receive(t, handled); got != want {
			t.Fatalf("want %s, got %s", want, got)
		}
	}
	st, err := c.Await(t.Context(), id, "a")
	if err != nil || len(st.Edits) != 2 || st.Edits[1].Action != "put back" || st.Edits[1].Reason != "restocked" || st.DeadLetter != nil {
		t.Fatal(st, err)
	}
}

// TestRealPutBackInNormalModeComesNext holds a message in a handler, puts a dead letter back behind it, and wants it to be
// the next one, with a worker that prefetches.
func TestRealPutBackInNormalModeComesNext(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Delivery: client.DeliveryPolicy{Window: 2}})
	id := client.InstanceID{Application: "app", Key: "i"}
	handling, goOn := make(chan string), make(chan error)
	host(t, c, client.WorkerConfig{Handler: func(ctx context.Context, d *client.Delivery) error {
		handling <- d.Message.ID
		return <-goOn
	}})
	for _, m := range []string{"a", "b", "c", "d"} {
		send(t, c, "i", m)
	}
	want := func(id string, answer error) {
		t.Helper()
		if got := receive(t, handling); got != id {
			t.Fatalf("want %s, got %s", id, got)
		}
		goOn <- answer
	}
	want("a", client.Reject(errors.New("cannot")))
	if got := receive(t, handling); got != "b" {
		t.Fatal(got)
	}
	back, err := c.Instances().PutBack(t.Context(), id, client.PutBack{Seqs: []client.Seq{1}})
	if err != nil || !back.Results[0].Waiting {
		t.Fatal(back, err)
	}
	goOn <- nil
	if got := receive(t, handling); got == "c" { // it was out already
		goOn <- nil
		want("a", nil)
		want("d", nil)
	} else if got != "a" {
		t.Fatal(got)
	} else {
		goOn <- nil
		want("c", nil)
		want("d", nil)
	}
}

func TestRealCompareAndSet(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	l := &life{t, c, client.InstanceID{Application: "app", Key: "i"}}
	l.enter(client.EnterRecovery{})
	send(t, c, "i", "a")
	look := func() client.ListedMessage {
		return collect(t, c.Instances().ListMessages(t.Context(), l.id, client.ListMessages{}))[0]
	}
	seen := look()
	resolve(t, c, "i", client.ResolveMessage{Seq: 1, Action: client.ActionReplace, Data: []byte("mended"), Version: seen.Version, Reason: "typing error"})
	late := client.ResolveMessage{Seq: 1, Lane: client.LaneNormal, Action: client.ActionSkip, Version: seen.Version}
	if _, err := c.Instances().ResolveMessage(t.Context(), l.id, late); !errors.Is(err, client.ErrChanged) {
		t.Fatal(err)
	}
	now := look()
	if !now.Replaced || string(now.Original) != string(seen.Message.Data) || string(now.Message.Data) != "mended" || seen.Replaced || now.Edits[0].Action != "replaced" || now.Edits[0].Time.IsZero() {
		t.Fatalf("%+v", now)
	}
}

func TestRealExportAndImport(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{Limits: client.Limits{MaxDeferredMessages: 100}})
	from, to := client.InstanceID{Application: "app", Key: "from"}, client.InstanceID{Application: "app", Key: "to"}
	for _, id := range []client.InstanceID{from, to} {
		(&life{t, c, id}).enter(client.EnterRecovery{})
	}
	for n := range 100 {
		m := client.Message{Application: "app", Instance: "from", ID: fmt.Sprint("m", n), Type: "t", Data: []byte{0, 255, byte(n)}, Headers: map[string]string{"n": "1"}}
		if _, err := c.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if n, err := c.Instances().Export(t.Context(), &file, from, client.ListMessages{}); err != nil || n != 100 || bytes.Count(file.Bytes(), []byte("\n")) != 100 {
		t.Fatal(n, err)
	}
	wantImport := func(lines string, to client.InstanceID, accepted, duplicates, refused int) client.Imported {
		t.Helper()
		done, err := c.Instances().Import(t.Context(), strings.NewReader(lines), to)
		if err != nil || done.Accepted != accepted || done.Duplicates != duplicates || len(done.Refused) != refused {
			t.Fatal(done, err)
		}
		return done
	}
	whole := file.String()
	wantImport(whole, to, 100, 0, 0)
	wantImport(whole, to, 0, 100, 0)
	wantImport(whole, client.InstanceID{}, 0, 100, 0)
	one := collect(t, c.Instances().ListMessages(t.Context(), from, client.ListMessages{}))
	two := collect(t, c.Instances().ListMessages(t.Context(), to, client.ListMessages{}))
	for n := range one {
		if one[n].Message.ID != two[n].Message.ID || !bytes.Equal(one[n].Message.Data, two[n].Message.Data) || two[n].Message.Headers["n"] != "1" {
			t.Fatal(one[n], two[n])
		}
	}
	// It ends soon after the first that is refused.
	full := client.InstanceID{Application: "app", Key: "full"}
	(&life{t, c, full}).enter(client.EnterRecovery{})
	other := strings.ReplaceAll(whole, `"id":"`, `"id":"x`)
	wantImport(other, full, 100, 0, 0)
	done := wantImport(whole, full, 0, 0, 64)
	if r := done.Refused[0]; r.Line != 1 || r.MessageID != "m0" || !errors.Is(r.Err, client.ErrLimitDeferredMessages) {
		t.Fatal(r)
	}
	// What follows that is not looked at, and does not hide it.
	torn := io.MultiReader(strings.NewReader(strings.Join(strings.SplitAfter(whole, "\n")[:64], "")), iotest.ErrReader(errors.New("torn")))
	if done, err := c.Instances().Import(t.Context(), torn, full); err != nil || len(done.Refused) != 64 {
		t.Fatal(done, err)
	}
	for _, bad := range []string{"no json\n", "{}\n", `{"message":{"application":"app","instance":"i","id":"x","type":""}}` + "\n", `{"what": 1}` + "\n"} {
		if _, err := c.Instances().Import(t.Context(), strings.NewReader("\n"+bad), client.InstanceID{}); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Fatal(err)
		}
	}
}
