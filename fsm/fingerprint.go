package fsm

import (
	"fmt"
	"regexp"

	"github.com/cespare/xxhash/v2"
)

// fingerprintBytes is how much of an error text, without what varies, a fingerprint looks at.
const fingerprintBytes = 256

// varying are the parts of an error text that differ between failures of one kind: quoted strings, UUIDs, hexadecimal
// ids of 8 digits or more, and runs of digits.
var varying = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`" +
	`|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b` +
	`|\b(?:0[xX])?[0-9a-fA-F]{8,}\b|[0-9]+`)

// fingerprint is the same for error texts that differ only in numbers, ids and quoted strings: 16 hexadecimal digits.
func fingerprint(text string) string {
	kind := varying.ReplaceAllString(text, "#")
	if len(kind) > fingerprintBytes {
		kind = kind[:fingerprintBytes]
	}
	return fmt.Sprintf("%016x", xxhash.Sum64String(kind))
}
