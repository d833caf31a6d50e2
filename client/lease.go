package client

import (
	"context"
	"time"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// keepLease renews the lease three times in its length, until ctx ends. A lease counts from the moment at which its
// renewal was sent, so that it never lasts longer here than at the cluster.
func (s *tenure) keepLease(ctx context.Context) {
	renewed := time.Now()
	for failures := 0; ; {
		pause := s.ttl / 3
		if failures > 0 {
			pause = min(jitter(s.client.cfg.Retry.Initial<<min(failures, 6)), s.ttl/10)
		}
		lapses := time.Until(renewed.Add(s.ttl))
		if lapses > 0 {
			pause = min(pause, lapses)
		}
		if !sleep(ctx, nil, pause) {
			return
		}
		sent := time.Now()
		err := s.renew(ctx, renewed.Add(s.ttl))
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			renewed, failures = sent, 0
			s.resume()
		case err.Reason == ErrUnknownSession:
			s.lose()
			return
		default:
			failures++
		}
		if time.Now().After(renewed.Add(s.ttl)) {
			s.pause()
		}
	}
}

// renew is one attempt at one node. It ends by the time at which the lease lapses, if that is to come.
func (s *tenure) renew(ctx context.Context, lapse time.Time) *Error {
	timeout := s.ttl / 3
	if left := time.Until(lapse); left > 0 {
		timeout = min(timeout, left)
	}
	n := s.client.nodes.pick(time.Now())
	_, err := attempt[sluicev1.KeepAliveRequest, sluicev1.KeepAliveResponse](ctx, s.client, n,
		sluicev1connect.WorkerServiceKeepAliveProcedure, &sluicev1.KeepAliveRequest{SessionId: s.id}, timeout)
	return err
}
