package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

func TestRealHoldAndReleaseOverASet(t *testing.T) {
	t.Parallel()
	c := sluicetest.Start(t).Client(t)
	apply(t, c, client.Application{})
	for _, key := range []string{"eu-1", "eu-2", "eu-3", "us-1"} {
		send(t, c, key, "m")
	}
	ops := c.Operations()
	hold := client.StartOperation{Application: "app", Selector: client.Selector{Prefix: "eu-", Mode: client.ModeNormal}, Cause: "fire", DryRun: true, RequestID: "q"}
	dry, err := ops.Hold(t.Context(), hold)
	if err != nil || dry.Operation.ID != "" || dry.Operation.Total != 3 || fmt.Sprint(dry.First) != "[eu-1 eu-2 eu-3]" {
		t.Fatal(dry, err)
	}
	hold.DryRun, hold.Until = false, time.Now().Add(time.Hour)
	started, err := ops.Hold(t.Context(), hold)
	if err != nil {
		t.Fatal(err)
	}
	op, err := ops.Wait(t.Context(), started.Operation.ID)
	if err != nil || op.State != client.OperationDone || op.Done != 3 || op.Kind != "enter-recovery" || op.Selector.Prefix != "eu-" || op.FrozenIndex == 0 || op.Cause != "fire" {
		t.Fatal(op, err)
	}
	if again, err := ops.Hold(t.Context(), hold); err != nil || !again.Operation.Duplicate || again.Operation.ID != op.ID || again.Operation.State != client.OperationDone {
		t.Fatal(again, err)
	}
	release := client.StartOperation{Application: "app", Selector: client.Selector{Instances: []string{"eu-1", "us-1", "never"}}}
	if started, err = ops.Release(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	if op, err = ops.Wait(t.Context(), started.Operation.ID); err != nil || op.Done != 1 || op.PassedOver != 1 || op.Failed != 1 {
		t.Fatal(op, err)
	}
	var items []client.OperationItem
	for i, err := range ops.Items(t.Context(), op.ID, "") {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, i)
	}
	if len(items) != 3 || items[0] != (client.OperationItem{Instance: "eu-1", State: client.ItemDone}) || items[1].State != client.ItemFailed || items[2].State != client.ItemPassedOver {
		t.Fatal(items)
	}
	if _, err := ops.Hold(t.Context(), client.StartOperation{Application: "app"}); !errors.Is(err, client.ErrBadField) {
		t.Fatal(err)
	}
}
