package main

import (
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// load puts settings together from a file's text, an environment and flags.
func load(t *testing.T, text string, environment map[string]string, args ...string) (*koanf.Koanf, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	settingFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadSettings(flags, file, func(name string) string { return environment[name] })
}

func TestFlagOverEnvironmentOverFileOverDefault(t *testing.T) {
	t.Parallel()
	file := "node-id: file\ndata-dir: file\nlisten: file\njoin: [a:1, b:2]\nbootstrap-expect: 3\ninsecure: true\n"
	environment := map[string]string{"SLUICE_NODE_ID": "environment", "SLUICE_DATA_DIR": "environment", "SLUICE_BOOTSTRAP_EXPECT": "5", "SLUICE_GOSSIP": ""}
	k, err := load(t, file, environment, "--node-id", "flag")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"node-id": "flag", "data-dir": "environment", "listen": "file", "cluster-name": "sluice", "gossip": "", "log-format": "text"} {
		if got := k.String(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got := k.Int("bootstrap-expect"); got != 5 {
		t.Errorf("bootstrap-expect is %d", got)
	}
	if got := k.Strings("join"); !slices.Equal(got, []string{"a:1", "b:2"}) {
		t.Errorf("join is %q", got)
	}
	if !k.Bool("insecure") {
		t.Error("insecure is not set")
	}
	k, err = load(t, file, map[string]string{"SLUICE_JOIN": "c:3, d:4"})
	if err != nil || !slices.Equal(k.Strings("join"), []string{"c:3", "d:4"}) {
		t.Errorf("join of the environment is %q, %v", k.Strings("join"), err)
	}
	k, err = load(t, file, nil, "--join", "e:5", "--join", "f:6")
	if err != nil || !slices.Equal(k.Strings("join"), []string{"e:5", "f:6"}) {
		t.Errorf("join of the flags is %q, %v", k.Strings("join"), err)
	}
}

func TestSettingsThatAreWrongAreSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"node_id: a":              `there is no setting "node_id"`,
		"bootstrap-expect: three": "bootstrap-expect: three is no whole number",
		"insecure: perhaps":       "insecure: perhaps is no true or false",
		"node-id: 5":              "node-id: 5 is no text",
		"join: {a: b}":            "no list of texts",
		"join: [1]":               "no list of texts",
		"node-id: [":              "line 1",
	} {
		if _, err := load(t, text, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	for variable, value := range map[string]string{"SLUICE_BOOTSTRAP_EXPECT": "three", "SLUICE_INSECURE": "perhaps"} {
		if _, err := load(t, "", map[string]string{variable: value}); err == nil || !strings.HasPrefix(err.Error(), variable+":") {
			t.Errorf("%s=%s: got %v", variable, value, err)
		}
	}
	if _, err := loadSettings(pflag.NewFlagSet("x", pflag.ContinueOnError), "/nonexistent.yaml", func(string) string { return "" }); err == nil {
		t.Error("a file that does not exist was read")
	}
}

func TestTheElectionTimeoutOfTheSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{{"2s", ""}, {"", ""}, {"50ms", "from 100ms to 1m0s"}, {"fast", "no length of time"}} {
		k, err := load(t, "election-timeout: \""+c.text+"\"", nil, "--node-id", "n1", "--data-dir", t.TempDir(), "--listen", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := serverConfig(&shell{err: io.Discard}, k)
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: got %v, want %q", c.text, err, c.want)
		}
		if want, _ := time.ParseDuration(c.text); c.want == "" && (err != nil || cfg.ElectionTimeout != want) {
			t.Errorf("%q: got %v and %v", c.text, cfg.ElectionTimeout, err)
		}
	}
}

// What a file of settings says is refused, or has the type of its setting.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("node-id: a\nbootstrap-expect: 3\ninsecure: true\njoin: [a:1, b:2]"))
	f.Add([]byte("snapshot-threshold: -1\nstart-held: yes"))
	f.Add([]byte(`{"listen": "127.0.0.1:1", "join": "x"}`))
	file := filepath.Join(f.TempDir(), "sluice.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		all := append(slices.Clone(settings), shared...)
		said, err := fileLayer(all, file)
		if err != nil {
			if !strings.Contains(err.Error(), file) {
				t.Errorf("the error does not name the file: %v", err)
			}
			return
		}
		for name, value := range said {
			i := slices.IndexFunc(all, func(s setting) bool { return s.name == name })
			if i < 0 || reflect.TypeOf(value) != reflect.TypeOf(all[i].standard) {
				t.Errorf("%s is a %T", name, value)
			}
		}
	})
}
