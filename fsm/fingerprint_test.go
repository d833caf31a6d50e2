package fsm

import (
	"strings"
	"testing"
)

func TestFingerprintsOfErrorsThatAreAlike(t *testing.T) {
	t.Parallel()
	for _, alike := range [][]string{
		{"order 4711 failed", "order 12 failed", "order 0 failed"},
		{"dial tcp 10.0.0.1:5432: refused", "dial tcp 10.20.30.40:80: refused"},
		{"key deadbeef01 is gone", "key 0123456789abcdef is gone", "key 0xDEADBEEF is gone"},
		{"id 018f4e8a-6c1e-7d3a-9b1f-2d4c6e8f0a1b unknown", "id 00000000-0000-0000-0000-000000000000 unknown"},
		{`no column "amount"`, `no column "the price"`, `no column 'x'`, "no column `y`"},
		{strings.Repeat("word ", 60) + "a", strings.Repeat("word ", 60) + "b"},
	} {
		for _, text := range alike[1:] {
			if fingerprint(text) != fingerprint(alike[0]) {
				t.Errorf("%q and %q are not alike", alike[0], text)
			}
		}
	}
	seen := map[string]string{}
	for _, text := range []string{"", "refused", "timeout", "order # failed", "order abc failed", "deadbee is short"} {
		f := fingerprint(text)
		if before, found := seen[f]; found || len(f) != 16 {
			t.Errorf("%q and %q have the fingerprint %q", before, text, f)
		}
		seen[f] = text
	}
}
