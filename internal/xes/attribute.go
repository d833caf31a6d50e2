package xes

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Attributes are attributes in the order of the file. Within one event, case or container no key stands twice.
type Attributes []Attribute

// Attribute is a key with a typed value.
type Attribute struct {
	Key string
	// Value is a string (also of an id), time.Time, int64, float64, bool, List, or Attributes (of a container).
	Value any
	// Nested are attributes of the attribute itself.
	Nested Attributes
}

// List is a value of ordered attributes; keys may stand more than once.
type List []Attribute

// Get gives the value of a key.
func (as Attributes) Get(key string) (any, bool) {
	for _, a := range as {
		if a.Key == key {
			return a.Value, true
		}
	}
	return nil, false
}

// text gives the value of a key if it is a string, otherwise nothing.
func (as Attributes) text(key string) string {
	v, _ := as.Get(key)
	s, _ := v.(string)
	return s
}

// MarshalJSON gives one object in the order of the file. A date is a string in RFC 3339, a list an array of objects with
// one key each, a container an object; a number that JSON cannot hold (NaN, INF) is a string. An attribute that has
// attributes of its own is an object of "value" and "attributes".
func (as Attributes) MarshalJSON() ([]byte, error) { return as.AppendJSON(nil), nil }

// AppendJSON appends what MarshalJSON gives.
func (as Attributes) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i, a := range as {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = a.appendMember(dst)
	}
	return append(dst, '}')
}

func (a Attribute) appendMember(dst []byte) []byte {
	dst = append(appendString(dst, a.Key), ':')
	if len(a.Nested) == 0 {
		return appendValue(dst, a.Value)
	}
	dst = append(dst, `{"value":`...)
	dst = appendValue(dst, a.Value)
	dst = append(dst, `,"attributes":`...)
	return append(a.Nested.AppendJSON(dst), '}')
}

func appendValue(dst []byte, value any) []byte {
	switch v := value.(type) {
	case string:
		return appendString(dst, v)
	case time.Time:
		return append(v.AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case float64:
		return appendFloat(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case List:
		return appendList(dst, v)
	case Attributes:
		return v.AppendJSON(dst)
	}
	panic(fmt.Sprintf("xes: no attribute value is a %T", value))
}

func appendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return appendString(dst, strconv.FormatFloat(f, 'g', -1, 64))
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

func appendList(dst []byte, list List) []byte {
	dst = append(dst, '[')
	for i, a := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(a.appendMember(append(dst, '{')), '}')
	}
	return append(dst, ']')
}

// appendString takes the short way for plain text, which nearly all of a log is.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always marshals
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// kinds are the elements that are attributes, each with the reading of its value; nil: its value are its children.
var kinds = map[string]func(string) (any, error){
	"string":    func(s string) (any, error) { return s, nil },
	"id":        func(s string) (any, error) { return s, nil },
	"date":      parseDate,
	"int":       func(s string) (any, error) { return strconv.ParseInt(strings.TrimSpace(s), 10, 64) },
	"float":     func(s string) (any, error) { return strconv.ParseFloat(strings.TrimSpace(s), 64) },
	"boolean":   parseBoolean,
	"list":      nil,
	"container": nil,
}

// dateForms are what logs in the wild write for xs:dateTime; one without a zone is taken as UTC.
var dateForms = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04:05-0700", "2006-01-02T15:04:05-07"}

func parseDate(s string) (any, error) {
	s = strings.TrimSpace(s)
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil && jsonYear(t) {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%q is no date of the form 2006-01-02T15:04:05.000+01:00", clip(s))
}

// jsonYear tells whether the year has the four digits that RFC 3339 has room for.
func jsonYear(t time.Time) bool { return t.Year() >= 0 && t.Year() <= 9999 }

func parseBoolean(s string) (any, error) {
	switch strings.TrimSpace(s) {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return nil, fmt.Errorf("%q is neither true nor false", clip(s))
}

// clip shortens a text from a file for an error's line.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
