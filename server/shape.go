package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"sluice/api/reason"
)

// shapeFault says at which field of a JSON body what was wrong, and what would have been right.
func shapeFault(path, format string, args ...any) error {
	return reason.BadField.Errorf("%s: %s", strings.TrimPrefix(path, "."), fmt.Sprintf(format, args...))
}

// CheckShape compares a JSON object with the message it should hold, and names the first field that does not fit and
// what would (BAD_FIELD). Fields that the message does not have are passed over. It is meant for what protojson refuses:
// what it says itself names neither the place nor what is allowed.
func CheckShape(data []byte, want protoreflect.MessageDescriptor) error {
	if len(bytes.TrimSpace(data)) == 0 {
		return reason.BadField.Errorf("the body is empty: want a JSON object, %s", want.FullName())
	}
	if !utf8.Valid(data) {
		return reason.BadField.Errorf("the body is not valid UTF-8 at byte %d", firstInvalid(data))
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var body any
	if err := decoder.Decode(&body); err != nil {
		return reason.BadField.Errorf("the body is not valid JSON: %s", jsonTrouble(err, len(data)))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return reason.BadField.Errorf("the body is not valid JSON: something follows the object at byte %d", decoder.InputOffset())
	}
	if _, ok := body.(map[string]any); !ok {
		return reason.BadField.Errorf("the body is %s: want a JSON object, %s", kindOf(body), want.FullName())
	}
	return checkMessage("", body, want)
}

func firstInvalid(data []byte) int {
	at := 0
	for at < len(data) {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}

func jsonTrouble(err error, size int) string {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Sprintf("it ends too early, after %d bytes", size)
	case errors.As(err, &syntax):
		return fmt.Sprintf("%v at byte %d", syntax, syntax.Offset)
	default:
		return err.Error()
	}
}

// checkMessage checks a value that should be a message, at its path from the body's root.
func checkMessage(path string, value any, want protoreflect.MessageDescriptor) error {
	switch want.FullName() {
	case "google.protobuf.Duration":
		return checkDuration(path, value)
	case "google.protobuf.Timestamp":
		return checkTimestamp(path, value)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return shapeFault(path, "want an object, got %s", kindOf(value))
	}
	for i := range want.Fields().Len() {
		if err := checkMember(path, object, want.Fields().Get(i)); err != nil {
			return err
		}
	}
	return nil
}

// checkMember checks the value of one field, under its JSON name or its protobuf name. null stands for absent.
func checkMember(path string, object map[string]any, field protoreflect.FieldDescriptor) error {
	for _, name := range []string{field.JSONName(), field.TextName()} {
		value, ok := object[name]
		if !ok || value == nil {
			continue
		}
		if err := checkField(path+"."+name, value, field); err != nil {
			return err
		}
	}
	return nil
}

func checkField(path string, value any, field protoreflect.FieldDescriptor) error {
	switch {
	case field.IsMap():
		return checkMap(path, value, field.MapValue())
	case field.IsList():
		return checkList(path, value, field)
	default:
		return checkOne(path, value, field)
	}
}

func checkMap(path string, value any, of protoreflect.FieldDescriptor) error {
	object, ok := value.(map[string]any)
	if !ok {
		return shapeFault(path, "want an object, got %s", kindOf(value))
	}
	for key, member := range object {
		if err := checkOne(path+"."+key, member, of); err != nil {
			return err
		}
	}
	return nil
}

func checkList(path string, value any, of protoreflect.FieldDescriptor) error {
	list, ok := value.([]any)
	if !ok {
		return shapeFault(path, "want an array, got %s", kindOf(value))
	}
	for i, member := range list {
		if err := checkOne(path+"["+strconv.Itoa(i)+"]", member, of); err != nil {
			return err
		}
	}
	return nil
}

// checkOne checks a single value: of a field, of a list or of a map.
func checkOne(path string, value any, field protoreflect.FieldDescriptor) error {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return checkMessage(path, value, field.Message())
	case protoreflect.EnumKind:
		return checkEnum(path, value, field.Enum())
	case protoreflect.StringKind:
		return wantKind[string](path, value, "a string")
	case protoreflect.BoolKind:
		return wantKind[bool](path, value, "true or false")
	case protoreflect.BytesKind:
		return checkBytes(path, value)
	case protoreflect.DoubleKind, protoreflect.FloatKind:
		return checkNumber(path, value)
	case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return checkInteger(path, value, true, bitsOf(field.Kind()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return checkInteger(path, value, false, bitsOf(field.Kind()))
	default:
		return nil
	}
}

func wantKind[T any](path string, value any, what string) error {
	if _, ok := value.(T); !ok {
		return shapeFault(path, "want %s, got %s", what, kindOf(value))
	}
	return nil
}

func checkEnum(path string, value any, enum protoreflect.EnumDescriptor) error {
	switch v := value.(type) {
	case string:
		if enum.Values().ByName(protoreflect.Name(v)) == nil {
			return shapeFault(path, "there is no %q; allowed: %s", shorten(v), allowedNames(enum))
		}
		return nil
	case json.Number:
		return checkInteger(path, value, true, 32)
	default:
		return shapeFault(path, "want one of %s, got %s", allowedNames(enum), kindOf(value))
	}
}

// allowedNames lists an enum's names but the one for "unspecified".
func allowedNames(enum protoreflect.EnumDescriptor) string {
	var names []string
	for i := range enum.Values().Len() {
		if v := enum.Values().Get(i); v.Number() != 0 {
			names = append(names, string(v.Name()))
		}
	}
	return strings.Join(names, ", ")
}

func checkBytes(path string, value any) error {
	text, ok := value.(string)
	if !ok {
		return shapeFault(path, "want bytes in base64, got %s", kindOf(value))
	}
	encoding := base64.StdEncoding
	if strings.ContainsAny(text, "-_") {
		encoding = base64.URLEncoding
	}
	if len(text)%4 != 0 {
		encoding = encoding.WithPadding(base64.NoPadding)
	}
	if _, err := encoding.DecodeString(text); err != nil {
		return shapeFault(path, "want bytes in base64: %v", err)
	}
	return nil
}

func checkNumber(path string, value any) error {
	text, ok := numeral(value)
	if _, err := strconv.ParseFloat(text, 64); !ok || err != nil {
		return shapeFault(path, "want a number, got %s", shown(value))
	}
	return nil
}

// checkInteger takes what protojson does: a number or a string, also 1e3 and 5.0, as long as it is whole and fits.
func checkInteger(path string, value any, signed bool, bits int) error {
	what := fmt.Sprintf("a whole number of %d bits", bits)
	if !signed {
		what = fmt.Sprintf("a whole number from 0 on, of %d bits", bits)
	}
	text, ok := numeral(value)
	if !ok || !fits(text, signed, bits) {
		return shapeFault(path, "want %s, got %s", what, shown(value))
	}
	return nil
}

func fits(text string, signed bool, bits int) bool {
	if strings.ContainsAny(text, ".eE") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || f != float64(int64(f)) {
			return false
		}
		text = strconv.FormatInt(int64(f), 10)
	}
	var err error
	if signed {
		_, err = strconv.ParseInt(text, 10, bits)
	} else {
		_, err = strconv.ParseUint(text, 10, bits)
	}
	return err == nil
}

func bitsOf(kind protoreflect.Kind) int {
	switch kind {
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Uint32Kind:
		return 32
	default:
		return 64
	}
}

// numeral gives the digits of a JSON number or of a string that should hold one.
func numeral(value any) (string, bool) {
	switch v := value.(type) {
	case json.Number:
		return v.String(), true
	case string:
		return v, true
	default:
		return "", false
	}
}

func checkDuration(path string, value any) error {
	const want = `want a duration in seconds such as "1.5s", of at most 10,000 years`
	text, ok := value.(string)
	if !ok {
		return shapeFault(path, "%s, got %s", want, kindOf(value))
	}
	if protojson.Unmarshal([]byte(strconv.Quote(text)), &durationpb.Duration{}) != nil {
		return shapeFault(path, "%s, got %s", want, shown(value))
	}
	return nil
}

func checkTimestamp(path string, value any) error {
	const want = `want a time such as "2026-11-23T12:00:00Z"`
	text, ok := value.(string)
	if !ok {
		return shapeFault(path, "%s, got %s", want, kindOf(value))
	}
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil {
		return shapeFault(path, "%s, got %s", want, shown(value))
	}
	return nil
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	default:
		return "an object"
	}
}

// shown is a value as it stood in the body, if it is short.
func shown(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(shorten(v))
	case json.Number:
		return shorten(v.String())
	default:
		return kindOf(value)
	}
}

// shorten keeps a text that goes into an error readable.
func shorten(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
