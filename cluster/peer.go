package cluster

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	logv1 "sluice/api/log/v1"
	peerv1 "sluice/api/peer/v1"
	"sluice/api/reason"
	sluicev1 "sluice/api/sluice/v1"
	"sluice/fsm"
)

// The calls that nodes make to each other.
const (
	methodForward   = "Forward"
	methodReadIndex = "ReadIndex"
	methodPoll      = "Poll"
	methodKeepAlive = "KeepAlive"
	methodQuiesced  = "Quiesced"
	methodJoin      = "Join"
	methodAdmit     = "Admit"
	methodRemove    = "Remove"
	methodTransfer  = "TransferLeadership"
	methodPromise   = "Promise"
	methodFounded   = "Founded"
	methodStats     = "Stats"
)

type peerMethod func(ctx context.Context, body []byte) (proto.Message, error)

// serve makes a peerMethod of a function with types.
func serve[Req any, P interface {
	*Req
	proto.Message
}, Resp proto.Message](f func(context.Context, P) (Resp, error)) peerMethod {
	return func(ctx context.Context, body []byte) (proto.Message, error) {
		req := P(new(Req))
		if err := proto.Unmarshal(body, req); err != nil {
			return nil, reason.BadField.Errorf("a peer's call cannot be decoded: %v", err)
		}
		return f(ctx, req)
	}
}

// peerMethods are what this node answers to others. Those that only the leader can answer are refused elsewhere:
// nothing travels more than one hop.
func (n *Node) peerMethods() map[string]peerMethod {
	return map[string]peerMethod{
		methodForward:   serve(n.serveForward),
		methodReadIndex: serve(n.serveReadIndex),
		methodPoll:      serve(n.servePoll),
		methodKeepAlive: serve(n.serveKeepAlive),
		methodQuiesced:  serve(n.serveQuiesced),
		methodJoin:      serve(n.Join),
		methodAdmit:     serve(n.serveAdmit),
		methodRemove:    serve(n.serveRemove),
		methodTransfer:  serve(n.serveTransfer),
		methodPromise:   serve(n.servePromise),
		methodFounded:   serve(n.serveFounded),
		methodStats:     serve(n.serveStats),
	}
}

// servePeer answers a call of another node.
func (n *Node) servePeer(ctx context.Context, _ string, method string, body []byte) ([]byte, error) {
	f := n.methods[method]
	if f == nil {
		return nil, reason.NotImplemented.Errorf("node %s does not know the call %q: it may be of an older version", n.cfg.NodeID, method)
	}
	select {
	case <-n.stopped:
		return nil, stopping()
	default:
	}
	resp, err := f(ctx, body)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(resp)
}

func (n *Node) serveReadIndex(ctx context.Context, _ *peerv1.ReadIndexRequest) (*peerv1.ReadIndexResponse, error) {
	if n.lead.Load() == nil {
		return nil, n.notLeader()
	}
	index, err := n.reader.index(ctx)
	return &peerv1.ReadIndexResponse{Index: index}, err
}

// leading is the leadership of this node, or the refusal to say instead.
func (n *Node) leading() (*leadership, error) {
	if l := n.lead.Load(); l != nil {
		return l, nil
	}
	return nil, n.notLeader()
}

func (n *Node) servePoll(ctx context.Context, req *peerv1.PollRequest) (*sluicev1.PollResponse, error) {
	l, err := n.leading()
	if err != nil {
		return nil, err
	}
	return l.poll(ctx, req)
}

func (n *Node) serveKeepAlive(_ context.Context, req *sluicev1.KeepAliveRequest) (*sluicev1.KeepAliveResponse, error) {
	l, err := n.leading()
	if err != nil {
		return nil, err
	}
	ttl, err := l.renewSession(req.SessionId)
	return &sluicev1.KeepAliveResponse{Ttl: durationpb.New(ttl)}, err
}

func (n *Node) serveQuiesced(ctx context.Context, req *peerv1.QuiescedRequest) (*peerv1.QuiescedResponse, error) {
	l, err := n.leading()
	if err != nil {
		return nil, err
	}
	quiesced, err := l.quiesced(ctx, fsm.InstanceID{Application: req.Application, Key: req.Instance})
	return &peerv1.QuiescedResponse{Quiesced: quiesced}, err
}

func (n *Node) serveStats(context.Context, *peerv1.StatsRequest) (*peerv1.StatsResponse, error) {
	r := n.raft()
	return &peerv1.StatsResponse{LastIndex: r.LastIndex(), AppliedIndex: n.group.applied.index(), Term: r.CurrentTerm(), NodeId: n.cfg.NodeID}, nil
}

func marshal(cmd *logv1.Command) ([]byte, error) {
	data, err := proto.Marshal(cmd)
	if err != nil {
		return nil, reason.BadField.Errorf("the command cannot be encoded: %v", err)
	}
	return data, nil
}

// fault is the refusal in an outcome as an error.
func fault(out *logv1.Outcome) error {
	if out.Fault == nil {
		return nil
	}
	return reason.FromFault(out.Fault)
}
