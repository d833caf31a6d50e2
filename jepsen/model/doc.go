// Package model is docs/concepts.md once more: the gate, modes, epochs, lanes, memory of ids, settlement, doubt, drain,
// outgoing messages and dead letters, written to be read and not to be fast. It shares no code with the state machine.
// It replays the entries that a cluster committed, and says of each command whether the cluster's own outcome is the one
// that was promised.
//
// An epoch is a number of which the promise says only that it is new and greater: the model learns each from the
// first answer that tells it, and holds every later one against it.
//
// Every command is known. What is beyond the model is an error, never passed over: what comes after the deduplication
// window, an Advance that leaves something due, more than 1,000 operations, more dead letters of an instance than are
// kept. Of a put back by fingerprint it takes from the answer which dead letters that is, and of a message's version that
// it stands for one revision alone. What is refused for its shape alone (BAD_NAME, BAD_FIELD) it does not foresee, but
// for what an application limits.
package model
