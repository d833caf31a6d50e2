package main

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	sluicev1 "sluice/api/sluice/v1"
)

func TestDeclarationsAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	want := &sluicev1.Application{
		Name:     "orders",
		Delivery: &sluicev1.Application_Delivery{Window: proto.Uint32(8), OnMaxAttempts: sluicev1.Policy_POLICY_DEAD_LETTER, BackoffInitial: durationpb.New(1500e6)},
		Patterns: []*sluicev1.Pattern{{Name: "order", Types: []*sluicev1.MessageType{
			{Name: "placed", Opens: true}, {Name: "fixed", Suitable: sluicev1.Suitability_SUITABLE_RECOVERY, After: []string{""}},
		}}},
		Retention:   &sluicev1.Retention{DedupWindow: durationpb.New(24 * 3600e9)},
		ExpiryClock: sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE,
	}
	for name, text := range map[string]string{
		"yaml": `
name: orders
delivery: {window: 8, on_max_attempts: dead-letter, backoff_initial: 1.5s}
patterns:
  - name: order
    types:
      - {name: placed, opens: true}
      - {name: fixed, suitable: recovery, after: [""]}
retention: {dedupWindow: 24h}
expiry_clock: EXPIRY_CLOCK_FREEZE
`,
		"json": `{"name": "orders", "delivery": {"window": 8, "onMaxAttempts": "POLICY_DEAD_LETTER", "backoffInitial": "1.5s"},
 "patterns": [{"name": "order", "types": [{"name": "placed", "opens": true}, {"name": "fixed", "suitable": "SUITABLE_RECOVERY", "after": [""]}]}],
 "retention": {"dedupWindow": "86400s"}, "expiryClock": "freeze"}`,
	} {
		got, err := parseDeclarations([]byte(text))
		if err != nil || len(got) != 1 || !proto.Equal(got[0], want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	many, err := parseDeclarations([]byte("name: a\n---\n---\nname: b\n"))
	if err != nil || len(many) != 2 || many[1].GetName() != "b" {
		t.Errorf("two documents: %v, %v", many, err)
	}
}

func TestWhatADeclarationMustNotSay(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                  "declares no application",
		"- name: a":                         "an application is an object",
		"name: a\ncolour: red":              `unknown field "colour"`,
		"name: a\nname: b":                  "already defined",
		"name: [":                           "line 1",
		"name: 5":                           "invalid value for string",
		"name: a\ndelivery: {window: many}": "invalid value for uint32",
		"name: a\ndelivery: {on_owner_lost: sometimes}": "POLICY_SOMETIMES",
		"name: a\nretention: {dedup_window: soon}":      `"soon" is no duration`,
		"name: a\ndelivery: {window: -1}":               "invalid value for uint32",
		"name: a\n---\nnome: b":                         "declaration 2",
	} {
		_, err := parseDeclarations([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// TestPlaceInTheRewritingIsNotTold: protojson chooses between two kinds of space by the build it is part of, and the place
// that it names is none in the user's file.
func TestPlaceInTheRewritingIsNotTold(t *testing.T) {
	t.Parallel()
	for _, space := range []string{" ", "\u00a0"} {
		err := plainProtoError(errors.New("proto:" + space + `(line 1:18): unknown field "nme"`))
		if got, want := err.Error(), `unknown field "nme"`; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzDeclarations(f *testing.F) {
	f.Add([]byte("name: a\npatterns: [{name: p, types: [{name: t, suitable: both}]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if all, err := parseDeclarations(text); err == nil && len(all) == 0 {
			t.Error("no error and no application")
		}
	})
}
