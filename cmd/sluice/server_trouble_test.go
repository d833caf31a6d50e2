package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/api/reason"
	"sluice/cluster"
	"sluice/server"
)

// A node that must not go on with its folder says what to do, each time the right thing.
func TestAFolderThatIsNotTheMembersSaysWhatToDo(t *testing.T) {
	cfg := server.Config{NodeID: "n2", DataDir: "/data/n2"}
	for _, c := range []struct {
		err  error
		hint string
	}{
		{fmt.Errorf("node: %w", reason.MemberExists.Errorf("node n2 votes")), "sluice cluster remove n2 --yes, and start this node again"},
		{fmt.Errorf("node: %w", cluster.ErrLost), "keep /data/n2 aside"},
		{errors.New("another"), ""},
	} {
		err := folderTrouble(cfg, c.err)
		if !errors.Is(err, c.err) {
			t.Errorf("%v became %v", c.err, err)
		}
		var h *hinted
		if errors.As(err, &h) != (c.hint != "") || h != nil && !strings.Contains(h.hint, c.hint) {
			t.Errorf("%v: %+v", c.err, h)
		}
	}
}
