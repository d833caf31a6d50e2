package laws

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// snippet is the mark before a block of code that a page takes from a file of this repository, so that it compiles.
var snippet = regexp.MustCompile(`^<!-- from (\S+) -->$`)

// gap is a line of such a block for what was left out.
const gap = "// …"

// checkSnippets wants every marked block to stand in the file that it names, but for the indentation.
func checkSnippets(t *tree) (breaches []breach) {
	for name, text := range t.texts {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			mark := snippet.FindStringSubmatch(line)
			if mark == nil {
				continue
			}
			if why := misquoted(lines[i+1:], t.texts[path.Clean(mark[1])]); why != "" {
				breaches = append(breaches, breach{fmt.Sprintf("%s:%d", name, i+1), mark[1] + " " + why})
			}
		}
	}
	return sorted(breaches)
}

// misquoted says what is wrong with the block that lines begin with; nothing if it stands in the source.
func misquoted(lines []string, source string) string {
	if source == "" {
		return "is not there"
	}
	if len(lines) == 0 || lines[0] != "```go" {
		return "is followed by no block of Go"
	}
	end := slices.Index(lines, "```")
	if end < 0 {
		return "is followed by a block without an end"
	}
	rest := trimmed(strings.Split(source, "\n"))
	for _, part := range parts(trimmed(lines[1:end])) {
		at := indexOf(rest, part)
		if at < 0 {
			return "has no such lines: " + part[0]
		}
		rest = rest[at+len(part):]
	}
	return ""
}

func trimmed(lines []string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = strings.TrimSpace(line)
	}
	return out
}

// parts are the runs of lines between gaps.
func parts(lines []string) (all [][]string) {
	for len(lines) > 0 {
		n := slices.Index(lines, gap)
		if n < 0 {
			n = len(lines)
		}
		if n > 0 {
			all = append(all, lines[:n])
		}
		lines = lines[min(n+1, len(lines)):]
	}
	return all
}

// indexOf is where a run of lines stands in others; -1: nowhere.
func indexOf(lines, run []string) int {
	for i := range len(lines) - len(run) + 1 {
		if slices.Equal(lines[i:i+len(run)], run) {
			return i
		}
	}
	return -1
}

func TestSnippetsAreTheirSources(t *testing.T) {
	t.Parallel()
	repo := repository(t)
	hold(t, checkSnippets(repo))
	if !strings.Contains(repo.texts["docs/sdk.md"], "<!-- from ") {
		t.Error("no snippet was found: the law held nothing")
	}
}

func TestSnippetLawCanFail(t *testing.T) {
	t.Parallel()
	const fence = "```"
	expect(t, checkSnippets(fixture(t,
		"a/a.go", "package a\n\nfunc a() {\n\tone()\n\ttwo()\n\tthree()\n}\n",
		"docs/a.md", strings.Join([]string{
			"<!-- from a/a.go -->", fence + "go", "one()", "two()", fence,
			"<!-- from a/a.go -->", fence + "go", "func a() {", "\tone()", gap, "\tthree()", "}", fence,
			"<!-- from a/a.go -->", fence + "go", "one()", "three()", fence,
			"<!-- from a/a.go -->", fence + "go", "three()", gap, "one()", fence,
			"<!-- from a/b.go -->", fence + "go", "one()", fence,
			"<!-- from a/a.go -->", "one()",
			"<!-- from a/a.go -->", fence + "go", "one()",
		}, "\n"),
	)),
		"docs/a.md:14", "docs/a.md:19", "docs/a.md:25", "docs/a.md:29", "docs/a.md:31")
}
