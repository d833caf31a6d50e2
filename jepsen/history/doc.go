// Package history keeps what happened in a run: what clients asked and were answered, what workers were given and did,
// which faults were in force, and which entries each node applied. It is written as JSON lines while the run goes on,
// and read back for the checkers, who look at nothing else. An operation whose answer is missing is unknown, and its
// return is at infinity: it is never dropped.
package history
