package laws

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
)

// link finds the targets of links in Markdown that lead into this repository.
var link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)\s]*)?\)`)

// checkLinks wants every link of a page to lead to a file or folder that is there.
func checkLinks(t *tree) (breaches []breach) {
	there := make(map[string]bool)
	for _, name := range t.names {
		for dir := name; dir != "."; dir = path.Dir(dir) {
			there[dir] = true
		}
	}
	for name, text := range t.texts {
		if !strings.HasSuffix(name, ".md") {
			continue
		}
		number := 0
		for line := range strings.Lines(text) {
			number++
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				if target := path.Join(path.Dir(name), match[1]); !there[target] {
					breaches = append(breaches, breach{fmt.Sprintf("%s:%d", name, number), "the link leads nowhere: " + target})
				}
			}
		}
	}
	return sorted(breaches)
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	hold(t, checkLinks(repository(t)))
}

func TestLinkLawCanFail(t *testing.T) {
	t.Parallel()
	expect(t, checkLinks(fixture(t,
		"README.md", "[here](docs/a.md), [folder](docs), [there](https://example.com/b)\n[gone](docs/b.md#part)\n",
		"docs/a.md", "[up](../README.md#part) [down](c.md)\n[self](#part)\n",
		"docs/LICENSE", "",
	)),
		"README.md:2", "docs/a.md:1")
}
