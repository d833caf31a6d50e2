package server

import (
	"context"

	"connectrpc.com/connect"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/fsm"
)

// transactionService begins, shows and ends transactions.
type transactionService struct{ node Node }

// Begin begins a transaction under a pattern.
func (s *transactionService) Begin(ctx context.Context, req *connect.Request[sluicev1.BeginTransactionRequest]) (*connect.Response[sluicev1.Transaction], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkTransaction(m.GetTransaction()),
		checkOptional("pattern", m.GetPattern()), checkOptional("client", m.GetClient()), checkOptional("request_id", m.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_BeginTransaction{BeginTransaction: m}}, (*logv1.Outcome).GetTransaction)
}

// Get shows a transaction.
func (s *transactionService) Get(ctx context.Context, req *connect.Request[sluicev1.GetTransactionRequest]) (*connect.Response[sluicev1.Transaction], error) {
	m := req.Msg
	if err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkTransaction(m.GetTransaction())); err != nil {
		return nil, err
	}
	id := fsm.InstanceID{Application: m.GetApplication(), Key: m.GetInstance()}
	return read(ctx, s.node, func(v View) (*sluicev1.Transaction, error) { return v.Transaction(id, m.GetTransaction()) })
}

// List shows the transactions of an instance, page by page.
func (s *transactionService) List(ctx context.Context, req *connect.Request[sluicev1.ListTransactionsRequest]) (*connect.Response[sluicev1.ListTransactionsResponse], error) {
	m := req.Msg
	if err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkPage(m.GetPageSize())); err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.ListTransactionsResponse, error) { return v.Transactions(m) })
}

// End ends a transaction.
func (s *transactionService) End(ctx context.Context, req *connect.Request[sluicev1.EndTransactionRequest]) (*connect.Response[sluicev1.Transaction], error) {
	m := req.Msg
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkTransaction(m.GetTransaction()), checkOptional("request_id", m.GetRequestId()))
	if err != nil {
		return nil, err
	}
	return change(ctx, s.node, &logv1.Command{Kind: &logv1.Command_EndTransaction{EndTransaction: m}}, (*logv1.Outcome).GetTransaction)
}
