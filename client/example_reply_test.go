package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"sluice/client"
	"sluice/client/sluicetest"
)

// Sends a question and awaits the reply, which the handler gives together with the completion of the message. A
// message that ended otherwise is an error that says how.
func Example_awaitAReply() {
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
	if _, err := c.Applications().Apply(ctx, client.Application{Name: "prices"}); err != nil {
		log.Fatal(err)
	}
	worker, err := c.NewWorker(client.WorkerConfig{
		Application: "prices", Logger: quiet,
		Handler: func(_ context.Context, d *client.Delivery) error {
			if string(d.Message.Data) != "tea" {
				return client.Reject(fmt.Errorf("we do not sell %s", d.Message.Data))
			}
			d.Reply([]byte("4.20"), "text/plain")
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	working, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- worker.Run(working) }()

	for _, item := range []string{"tea", "cars"} {
		question := client.Message{Application: "prices", Instance: "shop", Type: "price.asked", Data: []byte(item), AwaitReply: true}
		receipt, err := c.Send(ctx, question)
		if err != nil {
			log.Fatal(err)
		}
		answer, err := c.Await(ctx, question.InstanceID(), receipt.MessageID)
		switch {
		case err == nil:
			fmt.Printf("%s: %s (%s)\n", item, answer.Reply, answer.Settlement)
		case errors.Is(err, client.ErrDeadLettered):
			fmt.Printf("%s: %s: %s\n", item, answer.Settlement, answer.DeadLetter.LastError)
		default:
			log.Fatal(err)
		}
	}
	stop()
	<-ended

	// Output:
	// tea: 4.20 (completed)
	// cars: dead-lettered: we do not sell cars
}
