package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"
)

// setting is one thing that can be said of a node: by a flag, by the environment (SLUICE_ and its name), or in a file.
type setting struct {
	name     string
	standard any // its default; the type is the setting's type: string, int, bool or []string
	help     string
}

// settings are all of them. The flag wins over the environment, the environment over the file, the file over the default.
var settings = []setting{
	{"node-id", "", "name of this node, for ever: 1 to 63 letters, digits, dots, underscores and dashes, beginning with a letter or digit (required)"},
	{"data-dir", "", "folder for this node's data, used by no other (required)"},
	{"listen", "", "where the node listens for clients and other nodes, HOST:PORT (required)"},
	{"gossip", "", "where the node listens for gossip, HOST:PORT, TCP and UDP; a single node needs none"},
	{"advertise", "", "address under which others reach --listen, HOST:PORT (default: --listen)"},
	{"bootstrap-expect", 0, "found a new cluster when so many nodes without data have found each other; 0 founds none"},
	{"join", []string(nil), "gossip address of another node, HOST:PORT; may be given more than once; tried for ever"},
	{"cluster-name", "sluice", "name that all nodes of the cluster share"},
	{"start-held", false, "put every application into recovery before anything is delivered, unless the cluster is at work already"},
	{"log-format", "text", "how the log is written: text or json"},
	{"log-level", "info", "what is logged: debug, info, warn or error"},
	{"election-timeout", "", "how long a node waits for a word of the leader before it stands for election, 100ms to 1m (default 300ms)"},
	{"snapshot-interval", "", "how often the node looks whether a snapshot is due: 10s, 2m (default 30s)"},
	{"snapshot-threshold", 0, "entries after which a snapshot is due (default 8192); after 256 MiB of them one is made at once"},
	{"trailing-logs", 0, "entries that are kept behind a snapshot, at least 8: a node that lags by more may be sent the whole state (default 10240)"},
	{"drain-beside", 0, "how many messages of instances that drain, all together, are handed out in the time that a log entry takes, while other instances have work: 1 to 1024; 1024 hardly slows a drain (default 4)"},
	{"audit-file", "", "file to which every applied entry is appended, for tests of clusters; it grows without bound"},
	{"profiles", false, "show /debug/pprof to callers on this machine"},
	{"log-store", "", "library that keeps the raft log: wal or bolt (default wal)"},
}

// shared are the settings whose flags belong to every command.
var shared = []setting{
	{name: "tls-cert", standard: ""}, {name: "tls-key", standard: ""}, {name: "tls-ca", standard: ""}, {name: "insecure", standard: false},
}

// settingFlags makes the flags of the settings.
func settingFlags(f *pflag.FlagSet) {
	for _, s := range settings {
		switch standard := s.standard.(type) {
		case string:
			f.String(s.name, standard, s.help)
		case int:
			f.Int(s.name, standard, s.help)
		case bool:
			f.Bool(s.name, standard, s.help)
		case []string:
			f.StringArray(s.name, standard, s.help)
		}
	}
}

// layer is a source of settings, as koanf takes it.
type layer map[string]any

// ReadBytes is for sources of text; a layer has been read already.
func (layer) ReadBytes() ([]byte, error) {
	return nil, errors.New("a layer of settings has no text")
}

// Read gives the layer's settings.
func (l layer) Read() (map[string]any, error) { return l, nil }

// loadSettings puts the four sources over each other.
func loadSettings(flags *pflag.FlagSet, file string, getenv func(string) string) (*koanf.Koanf, error) {
	all := append(slices.Clone(settings), shared...)
	standard := layer{}
	for _, s := range all {
		standard[s.name] = s.standard
	}
	fromFile, err := fileLayer(all, file)
	if err != nil {
		return nil, err
	}
	fromEnvironment, err := environmentLayer(all, getenv)
	if err != nil {
		return nil, err
	}
	k := koanf.New("\x00") // names hold no such byte: there are no paths
	for _, l := range []layer{standard, fromFile, fromEnvironment, flagLayer(all, flags)} {
		if err := k.Load(l, nil); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
	}
	return k, nil
}

// fileLayer reads a YAML file (JSON is a part of YAML) whose keys are the settings' names. It is strict.
func fileLayer(all []setting, file string) (layer, error) {
	l := layer{}
	if file == "" {
		return l, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	var said map[string]any
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&said); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	for name, value := range said {
		i := slices.IndexFunc(all, func(s setting) bool { return s.name == name })
		if i < 0 {
			return nil, hint(fmt.Errorf("%s: there is no setting %q", file, name), "the settings are: %s", strings.Join(settingNames(all), ", "))
		}
		if l[name], err = coerce(all[i], value); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", file, name, err)
		}
	}
	return l, nil
}

func settingNames(all []setting) []string {
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.name
	}
	return names
}

// environmentLayer reads SLUICE_NODE_ID and so on; a variable that is empty says nothing.
func environmentLayer(all []setting, getenv func(string) string) (layer, error) {
	l := layer{}
	for _, s := range all {
		name := "SLUICE_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
		text := getenv(name)
		if text == "" {
			continue
		}
		value, err := parse(s, text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		l[s.name] = value
	}
	return l, nil
}

// flagLayer takes the flags that were given.
func flagLayer(all []setting, flags *pflag.FlagSet) layer {
	l := layer{}
	for _, s := range all {
		flag := flags.Lookup(s.name)
		if flag == nil || !flag.Changed {
			continue
		}
		switch s.standard.(type) {
		case string:
			l[s.name] = flag.Value.String()
		case int:
			l[s.name], _ = flags.GetInt(s.name)
		case bool:
			l[s.name], _ = flags.GetBool(s.name)
		case []string:
			l[s.name], _ = flags.GetStringArray(s.name)
		}
	}
	return l
}

// coerce judges a value of a file against the setting's type.
func coerce(s setting, value any) (any, error) {
	switch s.standard.(type) {
	case string:
		if text, ok := value.(string); ok {
			return text, nil
		}
	case int:
		if n, ok := value.(int); ok {
			return n, nil
		}
	case bool:
		if b, ok := value.(bool); ok {
			return b, nil
		}
	case []string:
		return texts(value)
	}
	return nil, fmt.Errorf("%v is no %s", value, typeName(s))
}

func texts(value any) (any, error) {
	if one, ok := value.(string); ok {
		return []string{one}, nil
	}
	many, ok := value.([]any)
	all := make([]string, len(many))
	for i, v := range many {
		text, isText := v.(string)
		ok = ok && isText
		all[i] = text
	}
	if !ok {
		return nil, fmt.Errorf("%v is no list of texts", value)
	}
	return all, nil
}

// parse reads a value from the environment's text; a list is separated by commas.
func parse(s setting, text string) (any, error) {
	switch s.standard.(type) {
	case int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no %s", text, typeName(s))
		}
		return n, nil
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no %s", text, typeName(s))
		}
		return b, nil
	case []string:
		return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' }), nil
	}
	return text, nil
}

func typeName(s setting) string {
	switch s.standard.(type) {
	case int:
		return "whole number"
	case bool:
		return "true or false"
	}
	return "text"
}
