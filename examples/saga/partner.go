package main

import (
	"context"
	"errors"
	"fmt"

	"sluice/client"
	"sluice/examples/internal/stage"
)

// partner is the state of a hotel, a flight or an account.
type partner struct {
	// Book is what took effect, one entry a message.
	Book    []string `json:"book"`
	Balance int      `json:"balance,omitempty"`
}

// answers are the types of the answers to what orders ask for.
var answers = map[string]string{
	"room.book": "room.booked", "room.release": "room.released",
	"seat.book": "seat.booked", "seat.release": "seat.released",
	"payment.take": "payment.taken",
}

// serve does what an order asks for, and answers it by a message. It serves all three kinds of partners.
func serve(_ context.Context, tx *client.Tx[partner]) error {
	if tx.Message.Type == stage.Asked {
		return tx.ReplyJSON(tx.State)
	}
	var r request
	if err := tx.Message.DecodeJSON(&r); err != nil {
		return client.Reject(err)
	}
	if tx.Message.Type == "account.opened" {
		tx.State.Balance = r.Amount
		tx.State.Book = append(tx.State.Book, tx.Message.Type)
		return nil
	}
	answer, known := answers[tx.Message.Type]
	if !known {
		return client.Reject(fmt.Errorf("%s knows no %s", tx.Instance, tx.Message.Type))
	}
	if tx.Message.Type == "payment.take" {
		if r.Amount > tx.State.Balance {
			answer = "payment.refused"
		} else {
			tx.State.Balance -= r.Amount
		}
	}
	tx.State.Book = append(tx.State.Book, answer+" "+r.Order)
	tx.Send(client.Message{Application: orders, Instance: r.Order, Type: answer})
	return nil
}

// workPartners hosts hotels, flights and accounts in this process.
func workPartners(s *stage.Stage) (stop func() error, err error) {
	var stops []func() error
	stop = func() (err error) {
		for _, end := range stops {
			err = errors.Join(err, end())
		}
		return err
	}
	for _, application := range []string{hotels, flights, accounts} {
		end, err := s.Work(client.WorkerConfig{
			Application: application, Logger: stage.Quiet, Handler: client.Typed(client.Schema[partner]{}, serve),
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("host %s: %w", application, err), stop())
		}
		stops = append(stops, end)
	}
	return stop, nil
}
