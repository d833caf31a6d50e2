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
	}
	return nil, ErrUnknownCommand
}

// checkDigest compares this replica's state with the leader's at an index that the leader had just applied.
// The digest of an index is known only until the next entry is applied, so the command is about the entry before it;
// about any other it says nothing.
func (t *txn) checkDigest(c *logv1.CheckDigest) (*logv1.Outcome, error) {
	if c.Index != t.before.index {
		return progress(0, false)
	}
	if ours := binary.BigEndian.AppendUint64(nil, t.before.digest); !bytes.Equal(ours, c.Digest) {
		return nil, &DivergedError{Index: c.Index, Ours: ours, Theirs: c.Digest}
	}
	return progress(1, false)
}
