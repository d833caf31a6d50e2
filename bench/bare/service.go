package bare

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// service takes messages as Sluice does and judges nothing.
type service struct {
	sluicev1connect.UnimplementedMessageServiceHandler
	batcher *batcher
}

// Send puts the messages into the log, tells the caller who leads, as Sluice does, and receipts them once they are committed and applied.
func (s *service) Send(ctx context.Context, call *connect.Request[sluicev1.SendRequest]) (*connect.Response[sluicev1.SendResponse], error) {
	command := &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: call.Msg.Messages}}}
	data, err := proto.Marshal(command)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if err := s.batcher.propose(ctx, [][]byte{data}); err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	answer := &sluicev1.SendResponse{}
	for _, m := range call.Msg.Messages {
		answer.Results = append(answer.Results, &sluicev1.SendResult{Receipt: &sluicev1.Receipt{
			MessageId: m.Id, Seq: 1, Disposition: sluicev1.Disposition_DISPOSITION_ACCEPTED, Mode: sluicev1.Mode_MODE_NORMAL,
		}})
	}
	response := connect.NewResponse(answer)
	if leader, _ := s.batcher.raft.LeaderWithID(); leader != "" {
		response.Header().Set("Sluice-Leader", string(leader))
	}
	return response, nil
}
