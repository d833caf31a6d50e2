package client_test

import (
	"context"
	"fmt"
	"log"

	"sluice/client"
	"sluice/client/sluicetest"
)

// A program follows what happens to an application. It stores how far it has come, and goes on from there the next
// time, at whichever node.
func ExampleClient_Watch() {
	ctx := context.Background()
	cluster, err := sluicetest.New()
	if err != nil {
		log.Fatal(err)
	}
	defer cluster.Close()
	c, err := client.Dial(ctx, client.Config{Addresses: cluster.Addrs()})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Applications().Apply(ctx, client.Application{Name: "orders"}); err != nil {
		log.Fatal(err)
	}
	order := client.InstanceID{Application: "orders", Key: "4711"}
	if _, err := c.Instances().EnterRecovery(ctx, order, client.EnterRecovery{Cause: "stocktaking"}); err != nil {
		log.Fatal(err)
	}
	if _, err := c.Send(ctx, client.Message{Application: "orders", Instance: "4711", ID: "m1", Type: "item.added"}); err != nil {
		log.Fatal(err)
	}

	var stored client.Cursor // in a file or a database
	follow := func(until client.ClusterEventType) {
		for e, err := range c.Watch(ctx, client.WatchOptions{Application: "orders", Since: stored}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s %s %s%s, %d held\n", e.Instance, e.Type, e.MessageID, e.Detail, e.DeferredMessages)
			if stored = e.Cursor; e.Type == until {
				return
			}
		}
	}
	follow(client.TypeMessageDeferred)
	if _, err := c.Instances().CompleteRecovery(ctx, order, client.CompleteRecovery{}); err != nil {
		log.Fatal(err)
	}
	follow(client.TypeDraining)

	// Output:
	// 4711 recovery-entered stocktaking, 0 held
	// 4711 message-deferred m1, 1 held
	// 4711 draining recovery completed; was: stocktaking, 1 held
}
