package server

import (
	"context"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
)

// eventService tells what happened. This version of Sluice does not serve it yet.
type eventService struct{}

// Watch answers that this version does not serve it.
func (eventService) Watch(context.Context, *connect.Request[sluicev1.WatchRequest], *connect.ServerStream[sluicev1.WatchResponse]) error {
	return notServed("EventService.Watch", "InstanceService.History and List show the same state")
}

func notServed(method, instead string) error {
	return reason.NotImplemented.Errorf("%s is part of the contract and not served by this version; %s", method, instead)
}
