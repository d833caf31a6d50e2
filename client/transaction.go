package client

import (
	"context"
	"iter"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// Transaction is an exchange of messages with one client system, which follows a pattern.
type Transaction struct {
	Instance InstanceID
	ID       string
	Pattern  string
	// Client names the client system, in free text.
	Client string
	// LastType is the last type that moved the step.
	LastType           string
	Closed             bool
	BeginTime, EndTime time.Time
	// Duplicate: the same request was carried out before.
	Duplicate bool
}

// Transactions begins, shows and ends transactions.
type Transactions struct{ c *Client }

// Transactions are the calls that concern transactions.
func (c *Client) Transactions() Transactions { return Transactions{c} }

// BeginTransaction says how a transaction begins.
type BeginTransaction struct {
	// ID of the transaction; empty: the instance's default transaction is named.
	ID string
	// Pattern is the name of one of the application's patterns.
	Pattern string
	// Client names the client system, in free text.
	Client string
	// RequestID; empty: one is made.
	RequestID string
}

// Begin begins a transaction.
func (t Transactions) Begin(ctx context.Context, id InstanceID, b BeginTransaction) (Transaction, error) {
	if err := checkInstance(id); err != nil {
		return Transaction{}, err
	}
	return transactionOf(Call[sluicev1.BeginTransactionRequest, sluicev1.Transaction](ctx, t.c,
		sluicev1connect.TransactionServiceBeginProcedure, &sluicev1.BeginTransactionRequest{
			Application: id.Application, Instance: id.Key, Transaction: b.ID, Pattern: b.Pattern,
			Client: b.Client, RequestId: orNewID(b.RequestID),
		}))
}

// Get shows one transaction.
func (t Transactions) Get(ctx context.Context, id InstanceID, transaction string) (Transaction, error) {
	if err := checkInstance(id); err != nil {
		return Transaction{}, err
	}
	return transactionOf(Call[sluicev1.GetTransactionRequest, sluicev1.Transaction](ctx, t.c,
		sluicev1connect.TransactionServiceGetProcedure, &sluicev1.GetTransactionRequest{
			Application: id.Application, Instance: id.Key, Transaction: transaction,
		}))
}

// End ends a transaction. An empty request id is made.
func (t Transactions) End(ctx context.Context, id InstanceID, transaction, requestID string) (Transaction, error) {
	if err := checkInstance(id); err != nil {
		return Transaction{}, err
	}
	return transactionOf(Call[sluicev1.EndTransactionRequest, sluicev1.Transaction](ctx, t.c,
		sluicev1connect.TransactionServiceEndProcedure, &sluicev1.EndTransactionRequest{
			Application: id.Application, Instance: id.Key, Transaction: transaction, RequestId: orNewID(requestID),
		}))
}

// List iterates over an instance's transactions, page by page; an error ends the iteration.
func (t Transactions) List(ctx context.Context, id InstanceID) iter.Seq2[Transaction, error] {
	return pages(func(token string) ([]Transaction, string, error) {
		if err := checkInstance(id); err != nil {
			return nil, "", err
		}
		res, err := Call[sluicev1.ListTransactionsRequest, sluicev1.ListTransactionsResponse](ctx, t.c,
			sluicev1connect.TransactionServiceListProcedure, &sluicev1.ListTransactionsRequest{
				Application: id.Application, Instance: id.Key, PageSize: pageSize, PageToken: token,
			})
		out := make([]Transaction, len(res.GetTransactions()))
		for i, tx := range res.GetTransactions() {
			out[i], _ = transactionOf(tx, nil)
		}
		return out, res.GetNextPageToken(), err
	})
}

func transactionOf(t *sluicev1.Transaction, err error) (Transaction, error) {
	if err != nil {
		return Transaction{}, err
	}
	return Transaction{
		Instance: InstanceID{Application: t.GetApplication(), Key: t.GetInstance()}, ID: t.GetId(),
		Pattern: t.GetPattern(), Client: t.GetClient(), LastType: t.GetLastType(), Closed: t.GetClosed(),
		BeginTime: timeOf(t.GetBeginTime()), EndTime: timeOf(t.GetEndTime()), Duplicate: t.GetDuplicate(),
	}, nil
}

// pageSize is how many are asked for at a time by the iterators.
const pageSize = 200

// pages iterates over all pages from the first on.
func pages[T any](page func(token string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for token := ""; ; {
			items, next, err := page(token)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == "" || next == token {
				return
			}
			token = next
		}
	}
}

// mapped iterates over what convert makes of each.
func mapped[T, U any](all iter.Seq2[T, error], convert func(T) U) iter.Seq2[U, error] {
	return func(yield func(U, error) bool) {
		for item, err := range all {
			var out U
			if err == nil {
				out = convert(item)
			}
			if !yield(out, err) {
				return
			}
		}
	}
}
