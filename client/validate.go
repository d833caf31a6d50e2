package client

import (
	"regexp"
	"unicode"
	"unicode/utf8"
)

// The shapes that the public contract fixes. What depends on declarations (types, patterns, limits) the gate judges.

const maxNameBytes = 256

var applicationName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func checkApplication(name string) error {
	if !applicationName.MatchString(name) {
		return refuse(ErrBadName, "application %q: a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", name)
	}
	return nil
}

func checkInstance(id InstanceID) error {
	if err := checkApplication(id.Application); err != nil {
		return err
	}
	return checkText(ErrBadName, "instance", id.Key)
}

// checkText is for instance keys, transactions, ids and types.
func checkText(r Reason, what, s string) error {
	if len(s) < 1 || len(s) > maxNameBytes || !utf8.ValidString(s) {
		return refuse(r, "%s: 1 to %d bytes of valid UTF-8 are allowed, not %d bytes", what, maxNameBytes, len(s))
	}
	for _, c := range s {
		if unicode.Is(unicode.Cc, c) {
			return refuse(r, "%s %q holds a control character: want none", what, s)
		}
	}
	return nil
}

// checkMessage is for messages to send, whose ids are filled in.
func checkMessage(m *Message) error {
	if err := checkInstance(m.InstanceID()); err != nil {
		return err
	}
	if err := checkText(ErrBadField, "message id", m.ID); err != nil {
		return err
	}
	if err := checkText(ErrBadField, "message type", m.Type); err != nil {
		return err
	}
	if m.Transaction != "" {
		return checkText(ErrBadName, "transaction", m.Transaction)
	}
	return nil
}
