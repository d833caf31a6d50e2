package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"gopkg.in/yaml.v3"

	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/server"
)

// parseDeclarations reads applications from YAML, of which JSON is a part. It is strict: what the contract does not know,
// or says twice, is an error.
func parseDeclarations(text []byte) ([]*sluicev1.Application, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var all []*sluicev1.Application
	for {
		var document any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
		}
		if document == nil {
			continue
		}
		a, err := declaration(document)
		if err != nil {
			return nil, fmt.Errorf("declaration %d: %w", len(all)+1, err)
		}
		if n := slices.IndexFunc(all, func(other *sluicev1.Application) bool { return other.GetName() == a.GetName() }); n >= 0 {
			return nil, fmt.Errorf("declarations %d and %d are both of application %q", n+1, len(all)+1, a.GetName())
		}
		all = append(all, a)
	}
	if len(all) == 0 {
		return nil, errors.New("it declares no application")
	}
	return all, nil
}

func declaration(document any) (*sluicev1.Application, error) {
	fields, ok := document.(map[string]any)
	if !ok {
		return nil, errors.New("an application is an object with a name")
	}
	if err := checkFields("", fields, (&sluicev1.Application{}).ProtoReflect().Descriptor()); err != nil {
		return nil, err
	}
	if err := spellOut("", fields); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	a := &sluicev1.Application{}
	if err := protojson.Unmarshal(raw, a); err != nil {
		return nil, errors.New(whyRefused(raw, a, err))
	}
	return a, nil
}

// whyRefused says what is wrong with a declaration that protojson refused: which field, and what is allowed.
func whyRefused(raw []byte, a *sluicev1.Application, err error) string {
	var shape *reason.Error
	if errors.As(server.CheckShape(raw, a.ProtoReflect().Descriptor()), &shape) {
		return shape.Message
	}
	return plainProtoError(err).Error()
}

// protoNoise is what protojson puts before what is wrong; the place is one in our own rewriting, not in the user's file.
// Some builds of it write a no-break space, so that nobody relies on its words.
var protoNoise = regexp.MustCompile(`^proto:[\s\x{a0}]*(\(line \d+:\d+\):[\s\x{a0}]*)?`)

func plainProtoError(err error) error {
	return errors.New(protoNoise.ReplaceAllString(err.Error(), ""))
}

// choice is what a field may say, and what stands before that in the contract's names.
type choice struct {
	prefix string
	words  []string
}

// choices and durations are the fields that may be written as people do, under either spelling of their names.
var (
	choices = map[string]choice{
		"suitable":      {"SUITABLE_", []string{"normal", "recovery", "both"}},
		"onmaxattempts": {"POLICY_", []string{"recover", "dead-letter"}},
		"onownerlost":   {"POLICY_", []string{"recover", "redeliver"}},
		"expiryclock":   {"EXPIRY_CLOCK_", []string{"run", "freeze"}},
	}
	durations = map[string]bool{"dedupwindow": true, "backoffinitial": true, "backoffmax": true, "heldafter": true, "outagewindow": true}
)

// checkFields refuses a field that the contract does not know, and says where it stands and which there are. What is
// otherwise not of the contract's shape is judged later.
func checkFields(path string, value any, want protoreflect.MessageDescriptor) error {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			field := fieldOf(want, key)
			if field == nil {
				return fmt.Errorf("unknown field %s; allowed here are %s", joinPath(path, key), strings.Join(fieldNames(want), ", "))
			}
			if field.Message() != nil && !field.IsMap() {
				if err := checkFields(joinPath(path, key), v[key], field.Message()); err != nil {
					return err
				}
			}
		}
	case []any:
		for n, inner := range v {
			if err := checkFields(fmt.Sprintf("%s[%d]", path, n), inner, want); err != nil {
				return err
			}
		}
	}
	return nil
}

// fieldOf finds a field under either of its names.
func fieldOf(m protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if f := m.Fields().ByTextName(key); f != nil {
		return f
	}
	return m.Fields().ByJSONName(key)
}

// fieldNames are the fields that a declaration may say: not those that answers alone carry.
func fieldNames(m protoreflect.MessageDescriptor) (names []string) {
	for n := range m.Fields().Len() {
		if f := m.Fields().Get(n); !slices.Contains(answered, f.FullName().Name()) || m.FullName() != "sluice.v1.Application" {
			names = append(names, f.TextName())
		}
	}
	return names
}

// answered are the fields of an application that only answers carry.
var answered = []protoreflect.Name{"version", "recovery_generation", "counts", "duplicate", "recovery"}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// spellOut turns short enum names and durations into those of protojson, at any depth.
func spellOut(path string, value any) error {
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			spelt, err := spellField(joinPath(path, key), key, inner)
			if err != nil {
				return err
			}
			v[key] = spelt
		}
	case []any:
		for n, inner := range v {
			if err := spellOut(fmt.Sprintf("%s[%d]", path, n), inner); err != nil {
				return err
			}
		}
	}
	return nil
}

func spellField(path, key string, value any) (any, error) {
	name := strings.ToLower(strings.ReplaceAll(key, "_", ""))
	text, isText := value.(string)
	switch c, chosen := choices[name]; {
	case isText && chosen:
		said := strings.ToUpper(strings.ReplaceAll(text, "-", "_"))
		for _, word := range append(c.words, "unspecified") {
			if whole := c.prefix + strings.ToUpper(strings.ReplaceAll(word, "-", "_")); said == whole || c.prefix+said == whole {
				return whole, nil
			}
		}
		return nil, fmt.Errorf("%s: there is no %q; allowed: %s", path, text, strings.Join(c.words, ", "))
	case value != nil && durations[name]:
		d, err := time.ParseDuration(text)
		if err != nil {
			said := fmt.Sprint(value)
			if isText {
				said = strconv.Quote(text)
			}
			return nil, fmt.Errorf("%s: %s is no duration such as 90s or 24h", path, said)
		}
		return spellDuration(d), nil
	}
	return value, spellOut(path, value)
}

func spellDuration(d time.Duration) string {
	sign := ""
	if d < 0 {
		sign, d = "-", -d
	}
	return fmt.Sprintf("%s%d.%09ds", sign, d/time.Second, d%time.Second)
}
