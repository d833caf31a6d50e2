package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"sluice/client"
	"sluice/client/sluicetest"
)

// basket is an instance's state. Its first version had a list of names, without counts.
type basket struct {
	Items map[string]int `json:"items"`
}

// baskets says how it is stored. Workers that know only version 1 do not touch what was written in version 2.
var baskets = client.Schema[basket]{
	Version: 2,
	Upgrades: map[uint32]func([]byte) ([]byte, error){
		1: func(old []byte) ([]byte, error) {
			var names []string
			if err := json.Unmarshal(old, &names); err != nil {
				return nil, err
			}
			b := basket{Items: map[string]int{}}
			for _, name := range names {
				b.Items[name]++
			}
			return json.Marshal(b)
		},
	},
}

// Keeps a basket as the instance's typed state. The state that an older release wrote is brought to the new version
// when it is read.
func Example_typedState() {
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
	if _, err := c.Applications().Apply(ctx, client.Application{Name: "baskets"}); err != nil {
		log.Fatal(err)
	}
	add := client.Message{Application: "baskets", Instance: "ada", Type: "item.added", Data: []byte("tea")}

	older := client.Typed(client.Schema[[]string]{Version: 1}, func(_ context.Context, tx *client.Tx[[]string]) error {
		*tx.State = append(*tx.State, string(tx.Message.Data))
		return tx.ReplyJSON(tx.State)
	})
	newer := client.Typed(baskets, func(_ context.Context, tx *client.Tx[basket]) error {
		if tx.State.Items == nil { // an instance without a state has the zero one
			tx.State.Items = map[string]int{}
		}
		tx.State.Items[string(tx.Message.Data)]++
		return tx.ReplyJSON(tx.State)
	})
	for _, handler := range []func(context.Context, *client.Delivery) error{older, newer} {
		worker, err := c.NewWorker(client.WorkerConfig{Application: "baskets", Logger: quiet, Handler: handler})
		if err != nil {
			log.Fatal(err)
		}
		running := worker.Start()
		status, _, err := c.Ask(ctx, add, nil)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", status.Reply)
		if err := running.Stop(); err != nil {
			log.Fatal(err)
		}
	}

	// Output:
	// ["tea"]
	// {"items":{"tea":2}}
}

// Gives out messages to other instances with the completion of one. They take effect with it, or not at all; one that
// its target refuses becomes a dead letter of the sender.
func Example_outgoingMessages() {
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
	for _, name := range []string{"orders", "parcels"} {
		if _, err := c.Applications().Apply(ctx, client.Application{Name: name}); err != nil {
			log.Fatal(err)
		}
	}
	worker, err := c.NewWorker(client.WorkerConfig{
		Application: "orders", Logger: quiet,
		Handler: func(_ context.Context, d *client.Delivery) error {
			d.Send(client.Message{Application: "parcels", Instance: d.Instance.Key, Type: "parcel.packed", Data: d.Message.Data})
			return d.SendJSON(client.Message{Application: "invoices", Instance: d.Instance.Key, Type: "invoice.written"}, map[string]int{"total": 12})
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	running := worker.Start()
	order := client.InstanceID{Application: "orders", Key: "4711"}
	if _, err := c.Send(ctx, client.Message{Application: order.Application, Instance: order.Key, Type: "order.placed", Data: []byte("tea")}); err != nil {
		log.Fatal(err)
	}

	// Nobody has declared the application invoices.
	refusals := client.WatchOptions{Application: "orders", Types: []client.ClusterEventType{client.TypeMessageDeadLettered}}
	for _, err := range c.Watch(ctx, refusals) {
		if err != nil {
			log.Fatal(err)
		}
		break
	}
	for m, err := range c.Instances().ListMessages(ctx, order, client.ListMessages{Lane: client.LaneOutgoing, DeadLetters: true}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("refused: %s to %s: %s\n", m.Message.Type, m.Message.InstanceID(), m.DeadLetter.Reason)
	}
	parcel := client.InstanceID{Application: "parcels", Key: "4711"}
	for m, err := range c.Instances().ListMessages(ctx, parcel, client.ListMessages{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("arrived: %s from %s: %s\n", m.Message.Type, m.Message.Source, m.Message.Data)
	}
	if err := running.Stop(); err != nil {
		log.Fatal(err)
	}

	// Output:
	// refused: invoice.written to invoices/4711: REFUSED_AT_TARGET: UNKNOWN_APPLICATION
	// arrived: parcel.packed from orders/4711: tea
}
