package client

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

type basket struct {
	Items []string `json:"items"`
	Total int      `json:"total"`
}

// third is a schema of version 3, whose predecessors had another total, or none.
var third = Schema[basket]{Version: 3, Upgrades: map[uint32]func([]byte) ([]byte, error){
	0: func(raw []byte) ([]byte, error) { return fmt.Appendf(nil, `{"items":[%q]}`, raw), nil },
	1: func(b []byte) ([]byte, error) { return []byte(strings.Replace(string(b), "}", `,"sum":1}`, 1)), nil },
	2: func(b []byte) ([]byte, error) {
		if strings.Contains(string(b), "never") {
			return nil, errors.New("version 2 never was")
		}
		return []byte(strings.Replace(string(b), "sum", "total", 1)), nil
	},
}}

func TestSchemaReadsWhatItMay(t *testing.T) {
	t.Parallel()
	for stored, want := range map[string]struct {
		version uint32
		state   string
		err     error
		text    string
	}{
		"": {0, "{[] 0}", nil, ""},
		"sluice-state 3\n{\"items\":[\"tea\"],\"total\":4}": {3, "{[tea] 4}", nil, ""},
		"sluice-state 2\n{\"items\":[\"tea\"],\"sum\":4}":   {2, "{[tea] 4}", nil, ""},
		"sluice-state 1\n{\"items\":[\"tea\"]}":             {1, "{[tea] 1}", nil, ""},
		"tea":                                               {0, "{[tea] 1}", nil, ""},
		"sluice-state 4\n{}":                                {4, "", ErrStateNewer, "version 4; this worker knows versions up to 3"},
		"sluice-state 2\nnever":                             {2, "", ErrStateUnreadable, "from version 2: version 2 never was"},
		"sluice-state 3\n{":                                 {3, "", ErrStateUnreadable, "decode the state of version 3"},
		"sluice-state 0\n{}":                                {0, "", ErrStateUnreadable, "no version"},
		"sluice-state 3":                                    {0, "", ErrStateUnreadable, "no version"},
		"sluice-state x\n":                                  {0, "", ErrStateUnreadable, "no version"},
		"sluice-state 4294967296\n.":                        {0, "", ErrStateUnreadable, "no version"},
	} {
		state, version, err := third.Decode([]byte(stored))
		if version != want.version || !errors.Is(err, want.err) || err != nil && !strings.Contains(err.Error(), want.text) {
			t.Errorf("%q: version %d, %v", stored, version, err)
		}
		if got := fmt.Sprint(state); want.err == nil && got != "&"+want.state {
			t.Errorf("%q: %s, want %s", stored, got, want.state)
		}
	}
	if _, _, err := (Schema[basket]{}).Decode([]byte("tea")); !errors.Is(err, ErrStateUnreadable) {
		t.Errorf("a state without a version, and no upgrade from it: %v", err)
	}
}

func TestSchemaWritesItsVersion(t *testing.T) {
	t.Parallel()
	for want, schema := range map[string]Schema[basket]{
		"sluice-state 1\n{\"items\":[\"tea\"],\"total\":4}": {},
		"sluice-state 3\n{\"items\":[\"tea\"],\"total\":4}": third,
	} {
		got, err := schema.Encode(&basket{Items: []string{"tea"}, Total: 4})
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if _, err := (Schema[func()]{}).Encode(new(func())); err == nil {
		t.Error("a state that JSON does not know was encoded")
	}
}
