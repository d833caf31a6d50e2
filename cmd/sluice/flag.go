package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wanted says what a flag of some type takes.
var wanted = map[string]string{
	"duration":  "a length of time such as 500ms, 90s or 24h",
	"uint":      "a whole number from 0 on",
	"uint32":    "a whole number from 0 to 4294967295",
	"uint64":    "a whole number from 0 on",
	"uintSlice": "whole numbers from 0 on, separated by commas",
	"int":       "a whole number",
	"float64":   "a number",
	"bool":      "true or false",
}

// flagError says what is wrong with a flag in words that do not come from a parser.
func flagError(_ *cobra.Command, err error) error {
	var value *pflag.InvalidValueError
	if !errors.As(err, &value) {
		return err
	}
	f := value.GetFlag()
	if want := wanted[f.Value.Type()]; want != "" {
		return usagef("--%s %s: want %s", f.Name, value.GetValue(), want)
	}
	return fmt.Errorf("--%s %s: %w", f.Name, value.GetValue(), errors.Unwrap(value))
}
