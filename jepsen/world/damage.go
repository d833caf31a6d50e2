package world

import (
	"slices"
	"strings"
)

// Damageable are the files of a node that a fault may damage: all but the segment to which the raft log is appending,
// the last by its name. What is damaged there is taken for a write that a loss of power tore, from which no checksum
// tells it, and what the node had acknowledged behind it is forgotten. Nobody can promise anything then.
func Damageable(files []string) []string {
	tail := ""
	for _, name := range files {
		if strings.HasSuffix(name, ".wal") {
			tail = max(tail, name)
		}
	}
	return slices.DeleteFunc(slices.Clone(files), func(name string) bool { return name == tail })
}
