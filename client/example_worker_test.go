package client_test

import (
	"context"
	"fmt"
	"log"

	"sluice/client"
	"sluice/client/sluicetest"
)

// Sends three messages to an instance, and hosts it: a worker's handler gets them one after the other, in order, and
// keeps a running total as the instance's state, which takes effect together with the completion of each message.
func Example_sendAndWork() {
	ctx := context.Background()
	cluster, err := sluicetest.New() // a real node in this process; yours has been running for long
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

	for _, item := range []string{"tea", "milk", "sugar"} {
		receipt, err := c.Send(ctx, client.Message{
			Application: "orders", Instance: "4711", ID: item, Type: "item.added", Data: []byte(item),
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("sent %s: %s as number %d\n", item, receipt.Disposition, receipt.Seq)
	}

	done := make(chan struct{})
	worker, err := c.NewWorker(client.WorkerConfig{
		Application: "orders",
		Logger:      quiet,
		Handler: func(_ context.Context, d *client.Delivery) error {
			basket := append(append([]byte(nil), d.State()...), ' ')
			d.SetState(append(basket, d.Message.Data...))
			fmt.Printf("handled %s: the basket holds%s\n", d.Message.Data, d.State())
			if d.Seq == 3 {
				close(done)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- worker.Run(working) }()
	<-done
	stop()
	fmt.Println("stopped in good order:", <-ended == nil)

	// Output:
	// sent tea: accepted as number 1
	// sent milk: accepted as number 2
	// sent sugar: accepted as number 3
	// handled tea: the basket holds tea
	// handled milk: the basket holds tea milk
	// handled sugar: the basket holds tea milk sugar
	// stopped in good order: true
}
