// Package check judges a run by its history alone. Each invariant has a checker of its name; all take time linear in the
// history, but for the search for real-time order, which is one for each instance. The committed order comes from the
// nodes' audits, and is replayed through the reference model.
package check
