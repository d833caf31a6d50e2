package server

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	logv1 "sluice/api/log/v1"
	sluicev1 "sluice/api/sluice/v1"

	"sluice/api/reason"
	"sluice/fsm"
)

const (
	// sendCountMax bounds the messages of one Send.
	sendCountMax = 1024

	// commandBytesMax bounds the messages of one command, unless it is a single one: a long command holds up the log
	// for everybody.
	commandBytesMax = 4 << 20

	awaitDefault = 30 * time.Second
	awaitMax     = 5 * time.Minute
)

// messageService takes messages and tells what became of them.
type messageService struct {
	*lifetime
	node   Node
	limits Limits
}

// Send offers messages to the gate.
func (s *messageService) Send(ctx context.Context, req *connect.Request[sluicev1.SendRequest]) (*connect.Response[sluicev1.SendResponse], error) {
	if len(req.Msg.GetMessages()) == 0 { // a name that is misspelt is passed over: nobody must take silence for a receipt
		return nil, reason.BadField.Errorf("messages is empty; 1 to %d are allowed", sendCountMax)
	}
	results, err := s.send(ctx, req.Msg.GetMessages())
	if err != nil && results == nil {
		return nil, err
	}
	return connect.NewResponse(&sluicev1.SendResponse{Results: results}), nil
}

// send gives one result a message, in their order. What cannot be a message at all is judged here and stays out of
// the log; all other judgment is the gate's. An error without results means that nothing can be said of any of them;
// an error with results, that some were judged and the others carry the error.
func (s *messageService) send(ctx context.Context, messages []*sluicev1.Message) ([]*sluicev1.SendResult, error) {
	if err := checkCount("messages", len(messages), sendCountMax); err != nil {
		return nil, err
	}
	results := make([]*sluicev1.SendResult, len(messages))
	admitted := make([]*sluicev1.Message, 0, len(messages))
	for i, m := range messages {
		if fault := s.admit(m); fault != nil {
			results[i] = &sluicev1.SendResult{Error: fault}
		} else {
			admitted = append(admitted, m)
		}
	}
	judged, err := s.propose(ctx, admitted)
	if err != nil && judged == nil {
		return nil, err
	}
	for i := range results {
		if results[i] == nil {
			results[i], judged = judged[0], judged[1:]
		}
	}
	return results, err
}

// propose has messages judged, one after the other, in commands of a bearable size. After a failure the messages that
// were not judged get it as their result; if none was, the error stands alone.
func (s *messageService) propose(ctx context.Context, messages []*sluicev1.Message) ([]*sluicev1.SendResult, error) {
	judged := make([]*sluicev1.SendResult, 0, len(messages))
	for len(judged) < len(messages) {
		part := portion(messages[len(judged):])
		cmd := &logv1.Command{Kind: &logv1.Command_Send{Send: &logv1.Send{Messages: part}}}
		answer, err := propose(ctx, s.node, cmd, (*logv1.Outcome).GetSend)
		if err == nil && len(answer.GetResults()) != len(part) {
			err = errOutcomeKind
		}
		if err != nil {
			return fillFault(judged, len(messages), err), err
		}
		judged = append(judged, answer.GetResults()...)
	}
	return judged, nil
}

// portion is the beginning of a list of messages that fits one command: at least one message.
func portion(messages []*sluicev1.Message) []*sluicev1.Message {
	size := 0
	for n, m := range messages {
		if size += proto.Size(m); size > commandBytesMax && n > 0 {
			return messages[:n]
		}
	}
	return messages
}

func fillFault(judged []*sluicev1.SendResult, count int, err error) []*sluicev1.SendResult {
	if len(judged) == 0 {
		return nil
	}
	for len(judged) < count {
		judged = append(judged, &sluicev1.SendResult{Error: faultOf(err)})
	}
	return judged
}

// admit judges the shape of a message and gives it an id if it has none.
func (s *messageService) admit(m *sluicev1.Message) *sluicev1.Fault {
	if m.GetId() == "" {
		m.Id = uuid.Must(uuid.NewV7()).String()
	}
	if len(m.GetData()) > s.limits.MessageBytes {
		return reason.LimitMessageBytes.Fault("data has %d bytes: no message may have more than %d here, whatever its application allows", len(m.GetData()), s.limits.MessageBytes)
	}
	err := first(checkInstance(m.GetApplication(), m.GetInstance()), checkRequired("id", m.GetId()), checkRequired("type", m.GetType()))
	if err == nil && m.GetTransaction() != "" {
		err = checkTransaction(m.GetTransaction())
	}
	return faultOf(err)
}

// Get tells the status of one message.
func (s *messageService) Get(ctx context.Context, req *connect.Request[sluicev1.GetMessageRequest]) (*connect.Response[sluicev1.MessageStatus], error) {
	id, err := messageID(req.Msg.GetApplication(), req.Msg.GetInstance(), req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	return read(ctx, s.node, func(v View) (*sluicev1.MessageStatus, error) { return v.Message(id, req.Msg.GetId()) })
}

// Await is Get that waits for the settlement or for its timeout.
func (s *messageService) Await(ctx context.Context, req *connect.Request[sluicev1.AwaitRequest]) (*connect.Response[sluicev1.MessageStatus], error) {
	id, err := messageID(req.Msg.GetApplication(), req.Msg.GetInstance(), req.Msg.GetId())
	if err != nil {
		return nil, err
	}
	timeout, err := checkSpan("timeout", req.Msg.GetTimeout(), awaitDefault, awaitMax)
	if err != nil {
		return nil, err
	}
	wait, cancel := s.untilEnd(ctx)
	defer cancel()
	bounded, done := context.WithTimeout(wait, timeout)
	defer done()
	status, err := s.node.Await(bounded, id, req.Msg.GetId())
	if err == nil && s.stopping() && status.GetStatus() != sluicev1.Status_MESSAGE_STATUS_SETTLED {
		err = errStopping // the caller's time is not up: another node goes on waiting for it
	}
	if err != nil {
		return nil, s.waitError(wait, err)
	}
	return connect.NewResponse(status), nil
}

func messageID(application, instance, message string) (fsm.InstanceID, error) {
	err := first(checkInstance(application, instance), checkRequired("id", message))
	return fsm.InstanceID{Application: application, Key: instance}, err
}
