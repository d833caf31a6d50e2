package client_test

import (
	"context"
	"fmt"
	"log"

	"sluice/client"
	"sluice/client/sluicetest"
)

// An operator holds an instance: what is sent to it is accepted and kept. When the operator lets it go, what was held
// is handled first, in order.
func Example_operatorHoldsAndDrains() {
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
	held, err := c.Instances().EnterRecovery(ctx, order, client.EnterRecovery{Cause: "stocktaking"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("mode:", held.Mode)
	for _, item := range []string{"tea", "milk"} {
		receipt, err := c.Send(ctx, client.Message{Application: "orders", Instance: "4711", Type: "item.added", Data: []byte(item)})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s, %d ahead of it\n", item, receipt.Disposition, receipt.Ahead)
	}
	let, err := c.Instances().CompleteRecovery(ctx, order, client.CompleteRecovery{Epoch: held.Epoch})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("mode: %s, %d held\n", let.Mode, let.DeferredMessages)

	settled := make(chan struct{})
	worker, err := c.NewWorker(client.WorkerConfig{
		Application: "orders", Logger: quiet,
		Handler: func(_ context.Context, d *client.Delivery) error {
			fmt.Printf("handled %s, held before: %v\n", d.Message.Data, d.Deferred)
			return nil
		},
		OnEvent: func(e client.Event) {
			if e.Kind == client.EventCompleted && e.Seq == 2 {
				close(settled)
			}
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- worker.Run(working) }()
	<-settled
	now, err := c.Instances().Get(ctx, order)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("mode: %s, %d held\n", now.Mode, now.DeferredMessages)
	stop()
	<-ended

	// Output:
	// mode: recovery
	// tea: deferred, 0 ahead of it
	// milk: deferred, 1 ahead of it
	// mode: draining, 2 held
	// handled tea, held before: true
	// handled milk, held before: true
	// mode: normal, 0 held
}
