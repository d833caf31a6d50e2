// Package workload is what runs against a cluster while it is hurt: senders, workers with recovery handlers, operators,
// and the replay of an event log. All of it goes through sluice/client, so that the SDK is under test, too, and all of
// it notes in the history what it asked for, saw and did. Chance comes from seeds alone.
package workload
