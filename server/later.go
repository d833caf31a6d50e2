package server

import (
	"context"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"
)

// ListDeadLetters answers that this version does not serve it.
func (*instanceService) ListDeadLetters(context.Context, *connect.Request[sluicev1.ListDeadLettersRequest]) (*connect.Response[sluicev1.ListDeadLettersResponse], error) {
	return nil, notServed("InstanceService.ListDeadLetters", "InstanceService.ListMessages lists the dead letters of one instance")
}

// GroupDeadLetters answers that this version does not serve it.
func (*instanceService) GroupDeadLetters(context.Context, *connect.Request[sluicev1.GroupDeadLettersRequest]) (*connect.Response[sluicev1.GroupDeadLettersResponse], error) {
	return nil, notServed("InstanceService.GroupDeadLetters", "InstanceService.ListMessages lists the dead letters of one instance")
}

// PutBack answers that this version does not serve it.
func (*instanceService) PutBack(context.Context, *connect.Request[sluicev1.PutBackRequest]) (*connect.Response[sluicev1.PutBackResponse], error) {
	return nil, notServed("InstanceService.PutBack", "send the message again under another id")
}
