// Package model is docs/concepts.md once more: the gate, modes, epochs, lanes, memory of ids, settlement, doubt, drain,
// outgoing messages and dead letters, written to be read and not to be fast. It shares no code with the state machine.
// It replays the entries that a cluster committed, and says of each command whether the cluster's own outcome is the one
// that was promised.
//
// An epoch is a number of which the promise says only that it is new and greater: the model learns each from the
// first answer that tells it, and holds every later one against it.
//
// It covers what the workload does. What it does not cover (transactions by name, expiry, operations over a set, outages,
// put-back) is an error, never passed over.
package model
