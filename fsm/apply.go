package fsm

import (
	"bytes"
	"encoding/binary"

	logv1 "sluice/api/log/v1"
)

// command applies one command. An error is trouble of this node; a refusal is an outcome.
func (t *txn) command(c *logv1.Command) (*logv1.Outcome, error) {
	switch k := c.Kind.(type) {
	case *logv1.Command_Send:
		return t.send(k.Send)
	case *logv1.Command_Settle:
		return t.settle(k.Settle)
	case *logv1.Command_Assign:
		return t.assign(k.Assign)
	case *logv1.Command_Advance:
		return t.advance(k.Advance)
	case *logv1.Command_ForwardOutgoing:
		return t.forward(k.ForwardOutgoing)
	case *logv1.Command_ApplyApplication:
		return t.applyApplication(k.ApplyApplication)
	case *logv1.Command_EnterApplicationRecovery:
		return t.enterApplication(k.EnterApplicationRecovery)
	case *logv1.Command_CompleteApplicationRecovery:
		return t.completeApplication(k.CompleteApplicationRecovery)
	case *logv1.Command_StepOperation:
		return t.stepOperation(k.StepOperation)
	case *logv1.Command_SteerOperation:
		return t.steerOperation(k.SteerOperation)
	case *logv1.Command_BeginOperation:
		return t.beginOperation(k.BeginOperation)
	case *logv1.Command_AddOperationItems:
		return t.addOperationItems(k.AddOperationItems)
	case *logv1.Command_BeginTransaction:
		return t.beginTransaction(k.BeginTransaction)
	case *logv1.Command_EndTransaction:
		return t.endTransaction(k.EndTransaction)
	case *logv1.Command_EnterRecovery:
		return t.enterRecovery(k.EnterRecovery)
	case *logv1.Command_CompleteRecovery:
		return t.completeRecovery(k.CompleteRecovery)
	case *logv1.Command_ResolveMessage:
		return t.resolveMessage(k.ResolveMessage)
	case *logv1.Command_PutBack:
		return t.putBack(k.PutBack)
	case *logv1.Command_Terminate:
		return t.terminate(k.Terminate)
	case *logv1.Command_OpenSession:
		return t.openSession(k.OpenSession)
	case *logv1.Command_CloseSession:
		return t.closeSession(k.CloseSession)
	case *logv1.Command_ExpireSessions:
		return t.expireSessions(k.ExpireSessions)
	case *logv1.Command_CheckDigest:
		return t.checkDigest(k.CheckDigest)
	case *logv1.Command_LeaderElected:
		return t.leaderElected(k.LeaderElected)
	}
	return nil, ErrUnknownCommand
}

// recentDigests is how many entries back a replica can tell its digest.
const recentDigests = 4096

// mark is the digest after an entry.
type mark struct{ index, digest uint64 }

// checkDigest compares this replica's state with the leader's at an index of late. A replica that does not have the
// digest of that index, because it restarted since, lets it pass: the next check comes soon.
func (t *txn) checkDigest(c *logv1.CheckDigest) (*logv1.Outcome, error) {
	if at := t.m.recent[c.Index%recentDigests]; at.index == c.Index && c.Index != 0 {
		if ours := binary.BigEndian.AppendUint64(nil, at.digest); !bytes.Equal(ours, c.Digest) {
			return nil, &DivergedError{Index: c.Index, Ours: ours, Theirs: c.Digest}
		}
	}
	return progress(0, false)
}
