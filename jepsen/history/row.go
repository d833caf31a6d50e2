package history

import (
	"math"
	"time"
)

// Never is the time of an answer that did not come.
const Never = time.Duration(math.MaxInt64)

// Result is how an operation ended.
type Result string

// The results.
const (
	// OK: it was done, and the answer tells what came of it.
	OK Result = "ok"
	// Fail: it was refused, or never reached anybody; it has no effect.
	Fail Result = "fail"
	// Unknown: it may or may not have been done, or may be done yet.
	Unknown Result = "unknown"
)

// What says which operation a client asked for.
type What string

// The operations.
const (
	Send                What = "send"
	Await               What = "await"
	GetInstance         What = "get-instance"
	EnterRecovery       What = "enter-recovery"
	CompleteRecovery    What = "complete-recovery"
	Resolve             What = "resolve"
	EnterApplication    What = "enter-application"
	CompleteApplication What = "complete-application"
	Apply               What = "apply"
	Terminate           What = "terminate"
	PutBack             What = "put-back"
	BeginTransaction    What = "begin-transaction"
	EndTransaction      What = "end-transaction"
	StartOperation      What = "start-operation"
	SteerOperation      What = "steer-operation"
	// Settle is a settlement that no worker of the SDK made. Its Answer's Reason is the refusal.
	Settle What = "settle"
)

// Args are what an operation asked for. Fields that it does not have are zero.
type Args struct {
	Application string `json:"application,omitempty"`
	Instance    string `json:"instance,omitempty"`
	// MessageID, Type and Data of a message.
	MessageID string `json:"message,omitempty"`
	Type      string `json:"type,omitempty"`
	Data      string `json:"data,omitempty"`
	// Request is a request id, Session a session's.
	Request string `json:"request,omitempty"`
	Session string `json:"session,omitempty"`
	Seq     uint64 `json:"seq,omitempty"`
	Lane    string `json:"lane,omitempty"`
	Action  string `json:"action,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	Through uint64 `json:"through,omitempty"`
	Discard bool   `json:"discard,omitempty"`
}

// Answer is what an operation was answered. Fields that it does not have are zero.
type Answer struct {
	Seq         uint64 `json:"seq,omitempty"`
	Disposition string `json:"disposition,omitempty"`
	Mode        string `json:"mode,omitempty"`
	Epoch       uint64 `json:"epoch,omitempty"`
	Ahead       uint64 `json:"ahead,omitempty"`
	Duplicate   bool   `json:"duplicate,omitempty"`
	// Index is the position in the log; 0: the answer does not tell.
	Index      uint64 `json:"index,omitempty"`
	Lane       string `json:"lane,omitempty"`
	Status     string `json:"status,omitempty"`
	Settlement string `json:"settlement,omitempty"`
	Reply      string `json:"reply,omitempty"`
	HasReply   bool   `json:"has-reply,omitempty"`
	// Deferred messages that were held; NextSeq, Owner and Quiesced of an instance.
	Deferred uint64 `json:"deferred,omitempty"`
	NextSeq  uint64 `json:"next-seq,omitempty"`
	Owner    string `json:"owner,omitempty"`
	Quiesced bool   `json:"quiesced,omitempty"`
	// Reason and Error of what was refused or is unknown.
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

// Operation is what one client asked for once, repetitions by the SDK included.
type Operation struct {
	// ID is unique in a run: the client's name and a number.
	ID     string
	Client string
	What   What
	Args   Args
	Call   time.Duration
	// Return is Never if Result is Unknown.
	Return time.Duration
	// Told is when the client was told of the result, also of Unknown; 0: it was told nothing.
	Told   time.Duration
	Result Result
	Answer Answer
}

// Deed is what a worker saw or did.
type Deed string

// The deeds.
const (
	// Deliver: a handler was called with a message. Settled, Failed, Rejected and Refused are what became of it, as
	// the cluster acknowledged; Outgoing is a message that the handler gave out with its settlement.
	Deliver  Deed = "deliver"
	Settled  Deed = "settled"
	Failed   Deed = "failed"
	Rejected Deed = "rejected"
	Refused  Deed = "refused"
	Outgoing Deed = "outgoing"
	// Effect: a handler did what it does outside Sluice. Done: it returned.
	Effect Deed = "effect"
	Done   Deed = "done"
	// Recover: a recovery handler was called; InDoubt: with this message in doubt. Recovered and RecoveryFailed are
	// what became of it, as the cluster acknowledged.
	Recover        Deed = "recover"
	InDoubt        Deed = "in-doubt"
	Recovered      Deed = "recovered"
	RecoveryFailed Deed = "recovery-failed"
	// SessionOpened, SessionLost and SessionClosed are of the worker's session; Fenced: an instance was taken away.
	SessionOpened Deed = "session-opened"
	SessionLost   Deed = "session-lost"
	SessionClosed Deed = "session-closed"
	Fenced        Deed = "fenced"
)

// WorkerEvent is what a worker saw or did with one message or recovery.
type WorkerEvent struct {
	Worker      string `json:"worker"`
	Session     string `json:"session,omitempty"`
	Deed        Deed   `json:"deed"`
	Application string `json:"application,omitempty"`
	Instance    string `json:"instance,omitempty"`
	Epoch       uint64 `json:"epoch,omitempty"`
	Lane        string `json:"lane,omitempty"`
	Seq         uint64 `json:"seq,omitempty"`
	Attempt     int    `json:"attempt,omitempty"`
	MessageID   string `json:"message,omitempty"`
	Type        string `json:"type,omitempty"`
	Deferred    bool   `json:"deferred,omitempty"`
	InDoubt     bool   `json:"in-doubt,omitempty"`
	// State is the instance's state as the handler saw it.
	State string `json:"state,omitempty"`
	// Through is what a recovery handler processed through.
	Through uint64 `json:"through,omitempty"`
	// Before is how often an effect had been left before; To is the instance that an outgoing message is for.
	Before int    `json:"before,omitempty"`
	To     string `json:"to,omitempty"`
	Error  string `json:"error,omitempty"`
}

// FaultEvent is a fault that begins, ends, or is skipped because the world cannot do it.
type FaultEvent struct {
	// Number counts the faults of a run from 1.
	Number int    `json:"number"`
	Kind   string `json:"kind"`
	// Text says for a person who is hit, and how.
	Text string `json:"text"`
	// Stage is injecting, injected, healing, healed, failed or skipped.
	Stage string `json:"stage"`
	Error string `json:"error,omitempty"`
}

// The stages of a fault.
const (
	Injecting = "injecting"
	Injected  = "injected"
	Healing   = "healing"
	Healed    = "healed"
	Failing   = "failed"
	Skipped   = "skipped"
)

// Audit is one entry that one node applied, or a snapshot that it took over (then only Index and Snapshot are set).
type Audit struct {
	Node  string `json:"node"`
	Index uint64 `json:"index"`
	Term  uint64 `json:"term,omitempty"`
	// Hash is the SHA-256 of the entry, in hexadecimal.
	Hash string `json:"hash,omitempty"`
	// Digest of the whole state after the entry, in hexadecimal; empty: the node noted it for a later entry of its batch.
	Digest string `json:"digest,omitempty"`
	// Entry is the entry itself, an api/log/v1 Entry; of raft's own entries there is none.
	Entry []byte `json:"entry,omitempty"`
	// Outcomes are what applying it answered, each an api/log/v1 Outcome.
	Outcomes [][]byte `json:"outcomes,omitempty"`
	Snapshot bool     `json:"snapshot,omitempty"`
}

// Mark is a moment that checkers must know: where the faults ended, where the quiet phase did.
type Mark struct {
	Name string `json:"name"`
	Text string `json:"text,omitempty"`
}

// The marks.
const (
	// FaultsOver: all faults are healed. QuietOver: what was to be waited for after that has come, or the bound is over.
	FaultsOver = "faults-over"
	QuietOver  = "quiet-over"
	// NodeEnded: a node's process ended though no fault had stopped it.
	NodeEnded = "node-ended"
	// StoppedAt: a node was stopped in the midst of something, at the point of the code that the text names.
	StoppedAt = "stopped-at"
	// Admitted: somebody was let in whose certificate must not be believed.
	Admitted = "admitted"
	// Expelled: a node is no member any more, and nobody had removed it.
	Expelled = "expelled"
)

// Row is one line of a history. Exactly one of the pointers is set.
type Row struct {
	// At is the world's time.
	At time.Duration `json:"at"`

	Call   *Call        `json:"call,omitempty"`
	Return *Return      `json:"return,omitempty"`
	Worker *WorkerEvent `json:"worker,omitempty"`
	Fault  *FaultEvent  `json:"fault,omitempty"`
	Audit  *Audit       `json:"audit,omitempty"`
	Mark   *Mark        `json:"mark,omitempty"`
	End    *End         `json:"end,omitempty"`
}

// End is the last row of a history that is whole: it tells how many came before it.
type End struct {
	Rows int `json:"rows"`
}

// Call is the beginning of an operation.
type Call struct {
	ID     string `json:"id"`
	Client string `json:"client"`
	What   What   `json:"what"`
	Args   Args   `json:"args"`
}

// Return is the end of an operation.
type Return struct {
	ID     string `json:"id"`
	Result Result `json:"result"`
	Answer Answer `json:"answer"`
}
