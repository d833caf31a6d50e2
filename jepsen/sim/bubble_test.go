package sim

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
)

// left may be there when a bubble ends: what raft was asked in the moment in which it stopped it leaves without an answer;
// a log whose disk hung when its node ended is left to the end of the process; and so is a part of a store that could not
// be opened, because its node was stopped on the way.
var left = regexp.MustCompile(`raft\.\(\*deferError\)\.Error|raft-wal\.\(\*WAL\)\.runRotate|pebble/v2\.\(\*ConcurrencyLimitScheduler\)\.periodicGranter`)

// bubble is synctest.Test, but for goroutines that may be left.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if !strings.HasPrefix(fmt.Sprint(p), "deadlock: main bubble goroutine has exited") {
			panic(p)
		}
		for _, stack := range leaked() {
			if !left.MatchString(stack) {
				t.Errorf("a goroutine never ended:\n%s", stack)
			}
		}
	}()
	synctest.Test(t, f)
}

var bubbled = regexp.MustCompile(`^goroutine \d+ \[.*synctest bubble (\d+)\]`)

// leaked are the stacks of the goroutines of the latest bubble.
func leaked() (stacks []string) {
	buf := make([]byte, 8<<20)
	latest := 0
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		m := bubbled.FindStringSubmatch(stack)
		if m == nil || strings.Contains(stack, "synctest.Run(") {
			continue
		}
		var number int
		if _, err := fmt.Sscan(m[1], &number); err != nil || number < latest {
			continue
		}
		if number > latest {
			latest, stacks = number, nil
		}
		stacks = append(stacks, stack)
	}
	return stacks
}
