// Package fsm decides: it holds all replicated state and the one function that changes it, Machine.Apply.
//
// The same entries in the same order give the same state, byte for byte, on every replica: nothing here reads a clock,
// draws a random number, starts a goroutine or looks at configuration. Time is what the proposer stamped on the entry.
// The store beneath is changed only through one batch a call, and every write goes into a chained hash, the digest,
// by which replicas are compared.
//
// A message is judged when its entry is applied, never before: see gate.go. A refusal is an outcome like any other.
// What Apply wants done outside — a message offered to a worker, a timer set — it says in Effects. Effects are hints:
// each can be derived again from a View, so that a lost hint or a new leader loses nothing.
//
// What happened, other than normal traffic, is part of the state, too: see event.go. So every node can tell of it, from
// any place on, after a restart as well as before.
//
// An instance that is behind its application's recovery generation is in recovery though nothing of it was written;
// it is caught up (see catchUp in mode.go) whenever a command touches it. Reads show it as if it had been.
package fsm
