package fsm

import (
	"regexp"
	"unicode"
	"unicode/utf8"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
)

const (
	// maxKeyBytes bounds instance keys, transactions, ids and types.
	maxKeyBytes = 256
	// maxTextBytes bounds free text: causes, reasons, error texts.
	maxTextBytes = 4096
	// maxHeaders and maxHeaderBytes bound a message's headers.
	maxHeaders     = 100
	maxHeaderBytes = 16 << 10
)

var applicationName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)

func checkApplicationName(name string) error {
	if !applicationName.MatchString(name) {
		return reason.BadName.Errorf("application %q: a name is 1 to 63 of a-z, 0-9, '.', '_' and '-', and begins with a letter or digit", cut(name))
	}
	return nil
}

// checkKey checks an instance key, transaction, id or type.
func checkKey(field, s string, r reason.Reason) error {
	if s == "" || len(s) > maxKeyBytes {
		return r.Errorf("%s has %d bytes; allowed are 1 to %d", field, len(s), maxKeyBytes)
	}
	return checkCharacters(field, s, r)
}

func checkCharacters(field, s string, r reason.Reason) error {
	for _, c := range s {
		if c == utf8.RuneError || unicode.IsControl(c) {
			if !utf8.ValidString(s) {
				return r.Errorf("%s %q is not valid UTF-8", field, cut(s))
			}
			if unicode.IsControl(c) {
				return r.Errorf("%s %q holds the control character %U; none is allowed", field, cut(s), c)
			}
		}
	}
	return nil
}

func cut(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}

func checkText(field, s string, limit int) error {
	if len(s) > limit {
		return reason.BadField.Errorf("%s has %d bytes; at most %d are allowed", field, len(s), limit)
	}
	if !utf8.ValidString(s) {
		return reason.BadField.Errorf("%s is not valid UTF-8", field)
	}
	return nil
}

func checkRequestID(id string) error {
	if id == "" {
		return nil
	}
	return checkKey("request_id", id, reason.BadField)
}

// checkMessage checks the shape of a message, but for its application, which is looked up.
func checkMessage(m *sluicev1.Message) error {
	if err := checkKey("instance", m.Instance, reason.BadName); err != nil {
		return err
	}
	if err := checkKey("id", m.Id, reason.BadField); err != nil {
		return err
	}
	if err := checkKey("type", m.Type, reason.BadField); err != nil {
		return err
	}
	if m.Transaction != "" {
		if err := checkKey("transaction", m.Transaction, reason.BadName); err != nil {
			return err
		}
	}
	if m.ExpireTime != nil {
		if err := m.ExpireTime.CheckValid(); err != nil {
			return reason.BadField.Errorf("expire_time: %v", err)
		}
	}
	if err := checkText("source", m.Source, maxKeyBytes); err != nil {
		return err
	}
	if err := checkText("content_type", m.ContentType, maxKeyBytes); err != nil {
		return err
	}
	return checkHeaders(m.Headers)
}

func checkHeaders(h map[string]string) error {
	if len(h) > maxHeaders {
		return reason.BadField.Errorf("headers holds %d; at most %d are allowed", len(h), maxHeaders)
	}
	size := 0
	for k, v := range h {
		size += len(k) + len(v)
	}
	if size > maxHeaderBytes {
		return reason.BadField.Errorf("headers have %d bytes; at most %d are allowed", size, maxHeaderBytes)
	}
	return nil
}
