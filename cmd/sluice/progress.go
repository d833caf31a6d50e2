package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// bar is a line on standard error that says how far long work is. It is there on terminals only.
type bar struct {
	out   io.Writer // nil: no terminal
	width int
	name  string
	begun time.Time
	now   func() time.Time
	shown bool
}

// newBar makes a line; its pace counts from now on.
func (sh *shell) newBar(name string) *bar {
	b := &bar{name: name, begun: sh.now(), now: sh.now, width: 80}
	f, ok := sh.err.(*os.File)
	if !ok || !isTerminal(f) || sh.getenv("TERM") == "dumb" {
		return b
	}
	b.out = f
	if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
		b.width = width
	}
	return b
}

// show replaces the line. Nothing is shown of work that has no size yet.
func (b *bar) show(done, total uint64, note string) {
	if b.out == nil || total == 0 {
		return
	}
	fmt.Fprintf(b.out, "\r\x1b[K%s", b.line(done, total, note))
	b.shown = true
}

// line is at most as wide as the terminal, so that it stays one.
func (b *bar) line(done, total uint64, note string) string {
	const cells = 24
	done = min(done, total)
	full := int(done * cells / total)
	text := fmt.Sprintf("%s [%s%s] %3d%%  %d/%d", b.name, strings.Repeat("=", full), strings.Repeat(" ", cells-full), done*100/total, done, total)
	if seconds := b.now().Sub(b.begun).Seconds(); seconds > 0 && done > 0 {
		text += fmt.Sprintf("  %.0f/s", float64(done)/seconds)
	}
	if note != "" {
		text += "  " + note
	}
	return text[:min(len(text), b.width-1)]
}

// clear removes the line.
func (b *bar) clear() {
	if b.shown {
		fmt.Fprint(b.out, "\r\x1b[K")
		b.shown = false
	}
}
