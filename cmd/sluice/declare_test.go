package main

import (
	"errors"
	"strings"
	"testing"
	"time"

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
		"name: a\ncolour: red":              `unknown field colour; allowed here are name, patterns, limits, delivery, retention, expiry_clock, supervision`,
		"name: a\nname: b":                  "already defined",
		"name: [":                           "line 1",
		"name: 5":                           "name: want a string, got a number",
		"name: a\ndelivery: {window: many}": `delivery.window: want a whole number from 0 on, of 32 bits, got "many"`,
		"name: a\ndelivery: {on_owner_lost: sometimes}":                            `delivery.on_owner_lost: there is no "sometimes"; allowed: recover, redeliver`,
		"name: a\nretention: {dedup_window: soon}":                                 `retention.dedup_window: "soon" is no duration`,
		"name: a\ndelivery: {window: -1}":                                          "delivery.window: want a whole number from 0 on, of 32 bits, got -1",
		"name: a\nsupervision: 5":                                                  "supervision: want an object, got a number",
		"name: a\nsupervision: []":                                                 "supervision: want an object, got an array",
		"name: a\nsupervision: {outage_instances: 1.5}":                            "supervision.outage_instances: want a whole number from 0 on, of 32 bits, got 1.5",
		"name: a\nsupervision: {outage_window: 60}":                                "supervision.outage_window: 60 is no duration such as 90s or 24h",
		"name: a\nsupervision: {outage_window: [1s]}":                              "is no duration such as 90s or 24h",
		"name: a\nsupervision: {outage_after: 3}":                                  `unknown field supervision.outage_after; allowed here are held_after, outage_instances, outage_window`,
		"name: a\ndelivery: {windw: 3}":                                            "unknown field delivery.windw; allowed here are window, max_attempts, ",
		"name: a\npatterns: [{name: p, types: [{name: t}, {name: u, aftr: [t]}]}]": "unknown field patterns[0].types[1].aftr; allowed here are name, suitable, after, opens, closes",
		"name: a\n---\nname: b\n---\nname: a":                                      `declarations 1 and 3 are both of application "a"`,
		"name: a\n---\nnome: b":                                                    "declaration 2",
	} {
		_, err := parseDeclarations([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func TestDurationsOfDeclarations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "0s": 0, "-5s": -5 * time.Second, "-0.5s": -time.Second / 2, "-1.25s": -1250 * time.Millisecond} {
		all, err := parseDeclarations([]byte("name: a\nsupervision: {outage_window: " + text + "}"))
		if err != nil || all[0].GetSupervision().GetOutageWindow().AsDuration() != want {
			t.Errorf("%s: %v, %v", text, all, err)
		}
	}
	if all, err := parseDeclarations([]byte("name: a\nsupervision: {outage_window: null}")); err != nil || all[0].GetSupervision().GetOutageWindow() != nil {
		t.Errorf("null stands for absent: %v, %v", all, err)
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
