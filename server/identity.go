package server

import (
	"context"
	"net"
	"net/http"

	"sluice/api/reason"
)

// actorHeader names who calls, in plain text mode: at most 256 bytes of UTF-8 without control characters.
const actorHeader = "Sluice-Actor"

type actorKey struct{}

// actorOf tells who made the call: it goes into the commands and from there into histories.
func actorOf(ctx context.Context) string {
	actor, _ := ctx.Value(actorKey{}).(string)
	return actor
}

func withActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

// identify finds out who calls. With TLS only a certificate counts, because anybody can write a header; in plain
// text mode, which is for loopback, the header is taken at its word.
func identify(r *http.Request, secure bool) (string, error) {
	if secure || r.TLS != nil {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].Subject.CommonName != "" {
			return r.TLS.PeerCertificates[0].Subject.CommonName, nil
		}
		return anonymous(r), nil
	}
	actor := r.Header.Get(actorHeader)
	if actor == "" {
		return anonymous(r), nil
	}
	if err := checkText(reason.BadField, "header "+actorHeader, actor); err != nil {
		return "", err
	}
	return actor, nil
}

func anonymous(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return "anonymous@" + host
}
