package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// table is what is printed when no JSON is asked for: rows under a head, or pairs of a name and a value.
type table struct {
	head []string
	rows [][]string
}

func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = cell(c)
	}
	t.rows = append(t.rows, row)
}

// cell prints one value; control characters, which could drive a terminal, are replaced.
func cell(value any) string {
	var text string
	switch v := value.(type) {
	case protoreflect.Enum:
		text = word(v)
	case *timestamppb.Timestamp:
		if v != nil {
			text = v.AsTime().Format(time.RFC3339)
		}
	case []byte:
		text = string(v)
	default:
		text = fmt.Sprint(v)
	}
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return '.'
		}
		return r
	}, text)
}

// word is the name of an enum's value as people say it: MODE_DRAINING of Mode is "draining".
func word(e protoreflect.Enum) string {
	value := e.Descriptor().Values().ByNumber(e.Number())
	if value == nil {
		return fmt.Sprint(e.Number())
	}
	_, rest, _ := strings.Cut(string(value.Name()), "_")
	rest = strings.TrimPrefix(rest, "STATUS_")
	if rest == "UNSPECIFIED" {
		return ""
	}
	return strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
}

const reset = "\x1b[0m"

// colors are those of the words that an operator looks for.
var colors = map[string]string{"normal": "\x1b[32m", "recovery": "\x1b[31m", "draining": "\x1b[33m", "deferred": "\x1b[33m", "dead-lettered": "\x1b[31m", "dead": "\x1b[31m", "suspect": "\x1b[33m", "alive": "\x1b[32m"}

// write prints the table with aligned columns.
func (t *table) write(out io.Writer, colored bool) error {
	lines := t.rows
	if t.head != nil {
		lines = append([][]string{t.head}, t.rows...)
	}
	widths := columnWidths(lines)
	var b bytes.Buffer
	for _, line := range lines {
		for i, c := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)+2)
			if i == len(line)-1 {
				pad = ""
			}
			if color := colors[c]; colored && color != "" {
				c = color + c + reset
			}
			b.WriteString(c + pad)
		}
		b.WriteByte('\n')
	}
	_, err := out.Write(b.Bytes())
	return err
}

func columnWidths(lines [][]string) []int {
	var widths []int
	for _, line := range lines {
		for i, c := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	return widths
}

// answer prints one message: as JSON, or by its table.
func (sh *shell) answer(m proto.Message, fill func(*table)) error {
	if sh.output != "table" {
		return sh.writeJSON(m)
	}
	t := &table{}
	fill(t)
	return t.write(sh.out, sh.colored())
}

// list prints many messages: whole as one JSON document, items one a line in jsonl, or a table with a row each.
func list[M proto.Message](sh *shell, whole proto.Message, items []M, head []string, row func(*table, M)) error {
	switch sh.output {
	case "json":
		return sh.writeJSON(whole)
	case "jsonl":
		for _, item := range items {
			if err := sh.writeJSON(item); err != nil {
				return err
			}
		}
		return nil
	}
	t := &table{head: head}
	for _, item := range items {
		row(t, item)
	}
	return t.write(sh.out, sh.colored())
}

// writeJSON prints protojson as the services answer it: jsonl on one line, json indented.
func (sh *shell) writeJSON(m proto.Message) error {
	raw, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	// protojson varies its spaces on purpose; what is printed does not.
	var b bytes.Buffer
	if sh.output == "json" {
		err = json.Indent(&b, raw, "", "  ")
	} else {
		err = json.Compact(&b, raw)
	}
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	b.WriteByte('\n')
	_, err = sh.out.Write(b.Bytes())
	return err
}

// size prints bytes as people say them.
func size(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	value, prefix := float64(n)/unit, 0
	for value >= unit && prefix < 4 {
		value, prefix = value/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[prefix])
}

// since prints how long ago something was; empty: never.
func (sh *shell) since(t *timestamppb.Timestamp) string {
	if t == nil {
		return ""
	}
	return sh.now().Sub(t.AsTime()).Round(time.Second).String()
}
