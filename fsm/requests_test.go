package fsm_test

import (
	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
)

func message(instance, id, typ string) *sluicev1.Message {
	return &sluicev1.Message{Application: "app", Instance: instance, Id: id, Type: typ, Data: []byte(id)}
}

func sendCommand(ms ...*sluicev1.Message) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: ms}}}
}

func enterCommand(instance, cause string) *logv1.Command {
	return enterRequest(&sluicev1.EnterRecoveryRequest{Instance: instance, Cause: cause})
}

func enterRequest(q *sluicev1.EnterRecoveryRequest) *logv1.Command {
	if q.Application == "" {
		q.Application = "app"
	}
	return &logv1.Command{Kind: &logv1.Command_EnterRecovery{EnterRecovery: q}}
}

func completeRequest(q *sluicev1.CompleteRecoveryRequest) *logv1.Command {
	if q.Application == "" {
		q.Application = "app"
	}
	return &logv1.Command{Kind: &logv1.Command_CompleteRecovery{CompleteRecovery: q}}
}

func enterAllRequest(q *sluicev1.EnterApplicationRecoveryRequest) *logv1.Command {
	if q.Application == "" {
		q.Application = "app"
	}
	return &logv1.Command{Kind: &logv1.Command_EnterApplicationRecovery{EnterApplicationRecovery: q}}
}

func openCommand(o *logv1.OpenSession) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_OpenSession{OpenSession: o}}
}

func closeCommand(session string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_CloseSession{CloseSession: &logv1.CloseSession{SessionId: session}}}
}

func expireCommand(sessions ...string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_ExpireSessions{ExpireSessions: &logv1.ExpireSessions{SessionIds: sessions}}}
}

func assignCommand(instance, session string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Assign{Assign: &logv1.Assign{Assignments: []*logv1.Assignment{{Application: "app", Instance: instance, SessionId: session}}}}}
}

func releaseCommand(instance, session string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Assign{Assign: &logv1.Assign{Releases: []*logv1.Assignment{{Application: "app", Instance: instance, SessionId: session}}}}}
}

// taking is what a settlement answers a delivery with.
func taking(d *sluicev1.Delivery, o sluicev1.Outcome) *sluicev1.Settlement {
	return &sluicev1.Settlement{Application: d.Application, Instance: d.Instance, Epoch: d.Epoch, Seq: d.Seq, Lane: d.Lane, Attempt: d.Attempt, Outcome: o}
}

func settleCommand(session string, ss ...*sluicev1.Settlement) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Settle{Settle: &sluicev1.SettleRequest{SessionId: session, Settlements: ss}}}
}

func advanceCommand(limit uint32) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_Advance{Advance: &logv1.Advance{Limit: limit}}}
}

func electedCommand(node string) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_LeaderElected{LeaderElected: &logv1.LeaderElected{NodeId: node}}}
}

func forwardCommand(limit uint32) *logv1.Command {
	return &logv1.Command{Kind: &logv1.Command_ForwardOutgoing{ForwardOutgoing: &logv1.ForwardOutgoing{Limit: limit}}}
}

func resolveRequest(q *sluicev1.ResolveMessageRequest) *logv1.Command {
	q.Application = "app"
	return &logv1.Command{Kind: &logv1.Command_ResolveMessage{ResolveMessage: q}}
}

func terminateRequest(q *sluicev1.TerminateRequest) *logv1.Command {
	q.Application = "app"
	return &logv1.Command{Kind: &logv1.Command_Terminate{Terminate: q}}
}

func beginRequest(q *sluicev1.BeginTransactionRequest) *logv1.Command {
	q.Application = "app"
	return &logv1.Command{Kind: &logv1.Command_BeginTransaction{BeginTransaction: q}}
}

func endRequest(q *sluicev1.EndTransactionRequest) *logv1.Command {
	q.Application = "app"
	return &logv1.Command{Kind: &logv1.Command_EndTransaction{EndTransaction: q}}
}
