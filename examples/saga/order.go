package main

import (
	"context"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// The applications.
const (
	orders   = "orders"
	hotels   = "hotels"
	flights  = "flights"
	accounts = "accounts"
)

// orderPattern is the saga as the gate knows it: a step that is not its turn is refused.
var orderPattern = client.Pattern{Name: "order", Types: []client.MessageType{
	{Name: "order.placed", Opens: true, After: []string{""}},
	{Name: "room.booked", After: []string{"order.placed"}},
	{Name: "seat.booked", After: []string{"room.booked"}},
	{Name: "payment.taken", After: []string{"seat.booked"}},
	{Name: "payment.refused", After: []string{"seat.booked"}},
	{Name: "seat.released", After: []string{"payment.refused"}},
	{Name: "room.released", After: []string{"seat.released"}},
	{Name: stage.Asked}, // at any time
}}

// trip is what an order is placed for.
type trip struct {
	Customer string `json:"customer"`
	Hotel    string `json:"hotel"`
	Flight   string `json:"flight"`
	Price    int    `json:"price"`
}

// order is the state of an instance of the application orders.
type order struct {
	Trip    trip     `json:"trip"`
	Steps   []string `json:"steps"`
	Outcome string   `json:"outcome,omitempty"`
}

var orderSchema = client.Schema[order]{Version: 1}

// request is what an order asks of a hotel, a flight or an account.
type request struct {
	Order  string `json:"order"`
	Amount int    `json:"amount,omitempty"`
}

// advance is one step of the saga: what has happened is noted, and what comes next is asked for.
func advance(tx *client.Tx[order]) error {
	if tx.Message.Type == stage.Asked {
		return tx.ReplyJSON(tx.State)
	}
	tx.State.Steps = append(tx.State.Steps, tx.Message.Type)
	switch tx.Message.Type {
	case "order.placed":
		if err := tx.Message.DecodeJSON(&tx.State.Trip); err != nil {
			return client.Reject(err)
		}
		return ask(tx, hotels, tx.State.Trip.Hotel, "room.book")
	case "room.booked":
		return ask(tx, flights, tx.State.Trip.Flight, "seat.book")
	case "seat.booked":
		return ask(tx, accounts, tx.State.Trip.Customer, "payment.take")
	case "payment.taken":
		tx.State.Outcome = "confirmed"
	case "payment.refused": // back, the last booking first
		return ask(tx, flights, tx.State.Trip.Flight, "seat.release")
	case "seat.released":
		return ask(tx, hotels, tx.State.Trip.Hotel, "room.release")
	case "room.released":
		tx.State.Outcome = "refused"
	}
	return nil
}

// ask gives out a message with the settlement of the one that is handled. Its id is left to the cluster, which derives
// it from the settlement.
func ask(tx *client.Tx[order], application, instance, kind string) error {
	return tx.SendJSON(client.Message{Application: application, Instance: instance, Type: kind}, request{Order: tx.Instance.Key, Amount: tx.State.Trip.Price})
}

// orderWorker is the process that hosts orders.
type orderWorker struct {
	*stage.Role
	dies bool // it never comes to an end with seat.released
}

func workOrders(ctx context.Context, r *stage.Role) error {
	w := &orderWorker{Role: r, dies: r.Args[0] == "dies"}
	return r.Work(ctx, client.WorkerConfig{
		Application: orders, Name: "orders", TTL: lease, Handler: client.Typed(orderSchema, w.handle), OnRecovery: client.TypedRecovery(orderSchema, w.recover),
	})
}

func (w *orderWorker) handle(ctx context.Context, tx *client.Tx[order]) error {
	if err := advance(tx); err != nil || tx.Message.Type == stage.Asked {
		return err
	}
	if w.dies && tx.Message.Type == "seat.released" {
		w.Cue("stuck", "%s: %s; has set the state, has given out room.release, and …", tx.Instance.Key, tx.Message.Type)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	w.Cue("step", "%s: %s", tx.Instance.Key, tx.Message.Type)
	if tx.State.Outcome != "" {
		w.Cue("outcome", "%s: the order is %s", tx.Instance.Key, tx.State.Outcome)
	}
	return nil
}

// recover has nothing to find out: all that handle does takes effect with the settlement, and what is in doubt has none.
func (w *orderWorker) recover(_ context.Context, r *client.RecoveryTx[order]) error {
	for _, d := range r.InDoubt {
		w.Cue("recovers", "%s: %s is in doubt; it took no effect, and is delivered again", r.Instance.Key, d.Message.Type)
	}
	return nil
}
