package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"sluice/client"
	"sluice/client/sluicetest"
)

// A worker dies in the middle of a message. The cluster does not run the message's handler again blindly: it puts the
// instance into recovery, where the next worker's recovery handler sees what is in doubt, finds out what took effect,
// and lets the rest go on.
func Example_recoveryAfterADeadWorker() {
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
	if _, err := c.Applications().Apply(ctx, client.Application{Name: "payments"}); err != nil {
		log.Fatal(err)
	}
	for _, what := range []string{"charge", "ship"} {
		if _, err := c.Send(ctx, client.Message{Application: "payments", Instance: "4711", ID: what, Type: what}); err != nil {
			log.Fatal(err)
		}
	}

	// The first worker charges the card, and dies before it can say so: its network is cut.
	cable := sluicetest.NewCable()
	doomed, err := client.New(client.Config{Addresses: cluster.Addrs(), WrapTransport: cable.Wrap, Logger: quiet})
	if err != nil {
		log.Fatal(err)
	}
	died := make(chan struct{})
	first, err := doomed.NewWorker(client.WorkerConfig{
		Application: "payments", TTL: time.Second, Logger: quiet,
		Handler: func(ctx context.Context, d *client.Delivery) error {
			fmt.Println("first worker: the card is charged")
			cable.Cut()
			<-ctx.Done()
			fmt.Println("first worker: interrupted, the lease is lost:", errors.Is(context.Cause(ctx), client.ErrLeaseLost))
			close(died)
			return context.Cause(ctx)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	doomedCtx, bury := context.WithCancel(ctx)
	buried := make(chan error)
	go func() { buried <- first.Run(doomedCtx) }()
	<-died

	shipped := make(chan struct{})
	second, err := c.NewWorker(client.WorkerConfig{
		Application: "payments", Logger: quiet,
		Handler: func(_ context.Context, d *client.Delivery) error {
			fmt.Printf("second worker: handles %s\n", d.Message.Type)
			close(shipped)
			return nil
		},
		OnRecovery: func(_ context.Context, r *client.Recovery) error {
			fmt.Println("second worker: owner lost:", strings.Contains(r.Cause, "owner lost"))
			for _, d := range r.InDoubt {
				fmt.Printf("second worker: in doubt: %s; the bank says it was charged\n", d.Message.Type)
				r.ProcessedThrough(d.Seq)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- second.Run(working) }()
	<-shipped
	stop()
	fmt.Println("stopped in good order:", <-ended == nil)
	cable.Mend()
	bury()
	<-buried

	// Output:
	// first worker: the card is charged
	// first worker: interrupted, the lease is lost: true
	// second worker: owner lost: true
	// second worker: in doubt: charge; the bank says it was charged
	// second worker: handles ship
	// stopped in good order: true
}
