package server

import (
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/api/reason"
)

// Limits of names, as the public contract states them.
const (
	applicationBytesMax = 63
	textBytesMax        = 256
)

// first gives the first of several judgments that is an error.
func first(judgments ...error) error {
	for _, err := range judgments {
		if err != nil {
			return err
		}
	}
	return nil
}

// checkApplication judges the name of an application: [a-z0-9][a-z0-9._-]{0,62}.
func checkApplication(name string) error {
	if isApplicationName(name) {
		return nil
	}
	return reason.BadName.Errorf("application %q: want 1 to %d of a-z, 0-9, '.', '_' and '-', beginning with a letter or a digit", shorten(name), applicationBytesMax)
}

func isApplicationName(name string) bool {
	if name == "" || len(name) > applicationBytesMax {
		return false
	}
	for i := range len(name) {
		c := name[i]
		alphanumeric := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alphanumeric && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

// checkKey judges the key of an instance.
func checkKey(key string) error { return checkText(reason.BadName, "instance", key) }

// checkInstance judges the two names of an instance.
func checkInstance(application, key string) error {
	return first(checkApplication(application), checkKey(key))
}

// checkTransaction judges the name of a transaction.
func checkTransaction(name string) error { return checkText(reason.BadName, "transaction", name) }

// checkRequired judges any other short text that must be there.
func checkRequired(field, text string) error { return checkText(reason.BadField, field, text) }

// checkOptional judges any other short text that may be empty.
func checkOptional(field, text string) error {
	if text == "" {
		return nil
	}
	return checkRequired(field, text)
}

func checkText(as reason.Reason, field, text string) error {
	switch {
	case text == "":
		return as.Errorf("%s is empty: want 1 to %d bytes", field, textBytesMax)
	case len(text) > textBytesMax:
		return as.Errorf("%s is %d bytes long: want 1 to %d", field, len(text), textBytesMax)
	case !utf8.ValidString(text):
		return as.Errorf("%s is not valid UTF-8", field)
	case hasControl(text):
		return as.Errorf("%s %q holds a control character: want none", field, shorten(text))
	default:
		return nil
	}
}

func hasControl(text string) bool {
	for _, r := range text {
		if unicode.Is(unicode.Cc, r) {
			return true
		}
	}
	return false
}

// checkCount judges how many elements a list of a request has.
func checkCount(field string, count, most int) error {
	if count > most {
		return reason.BadField.Errorf("%s has %d elements: want at most %d in a call", field, count, most)
	}
	return nil
}

// checkEnumValue judges a filter that may be left out.
func checkEnumValue(field string, value protoreflect.Enum) error {
	if value.Descriptor().Values().ByNumber(value.Number()) == nil {
		return reason.BadField.Errorf("%s: there is no value %d; allowed: %s", field, value.Number(), allowedNames(value.Descriptor()))
	}
	return nil
}

// checkSpan judges a time span and gives it; absent or zero is otherwise.
func checkSpan(field string, d *durationpb.Duration, otherwise, most time.Duration) (time.Duration, error) {
	if d == nil || (d.GetSeconds() == 0 && d.GetNanos() == 0) {
		return otherwise, nil
	}
	if err := d.CheckValid(); err != nil {
		return 0, reason.BadField.Errorf("%s is no valid duration: %v", field, err)
	}
	span := d.AsDuration()
	if span < 0 || span > most {
		return 0, reason.BadField.Errorf("%s is %v: want 0 to %v", field, span, most)
	}
	return span, nil
}
