// Package server serves the public contract: one file a service, each of whose methods identifies the caller,
// validates the request, translates it into a command or a read, and asks the node.
//
// The way in is front (what no service needs to see), bodyGuard (size and time of a request), the codecs (JSON and
// binary), access (counts, logs, panics, the outward form of errors), and then the service. Errors of all of them are
// *reason.Error or trouble of this node's own; toWire alone makes Connect errors of them.
//
// Server puts a node together: transport, cluster, services, pages. New starts nothing; Run blocks.
package server
