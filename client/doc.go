// Package client is the Go SDK of Sluice: it sends messages to instances, changes their modes, and hosts instances in
// a Worker.
//
// A Client talks to any node of a cluster. It repeats a call that was not done, or whose outcome it could not learn,
// with the same ids and within a budget, so that a repetition has no second effect; it never repeats a refusal.
// Refusals are told apart with errors.Is: errors.Is(err, client.ErrNotSuitable).
//
//	c, err := client.Dial(ctx, client.Config{Addresses: []string{"127.0.0.1:7631"}})
//	receipt, err := c.Send(ctx, client.Message{Application: "orders", Instance: "4711", Type: "order.placed", Data: data})
//
// A Worker runs a handler for each message, an instance's messages strictly one after the other and in order. State,
// outgoing messages and reply of a handler take effect together with the settlement of its message, or not at all. An
// instance whose worker was lost is in recovery: its recovery handler (WorkerConfig.OnRecovery) sees what is in doubt
// and decides what took effect.
//
//	w, err := c.NewWorker(client.WorkerConfig{Application: "orders", Handler: handle, OnRecovery: recover})
//	err = w.Run(ctx)
//
// What happens in the cluster can be followed, and gone on with at any node: Client.Watch.
//
// Package sluicetest starts a cluster within a test.
package client
