package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is what this binary calls itself; the build sets it with -ldflags "-X main.version=…".
var version = "0.1.0-dev"

// build is what is known of how this binary came about.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: branded(version), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func newVersion(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: noArgs, Example: "  sluice version\n  sluice version -o json",
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			if sh.output == "table" {
				_, err := fmt.Fprintf(sh.out, "sluice %s (%s, %s)\n", b.Version, b.Go, b.Platform)
				return err
			}
			encoder := json.NewEncoder(sh.out)
			if sh.output == "json" {
				encoder.SetIndent("", "  ")
			}
			return encoder.Encode(b)
		},
	}
}
