package transport

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"
)

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// accept takes connections until the listener is closed. An error that may pass, as when files run out, is waited out.
func (t *Transport) accept(ctx context.Context) error {
	pause := acceptPauseMin
	for {
		raw, err := t.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			t.log.Warn("cannot accept a connection", "error", err)
			if !sleep(ctx, pause) {
				return nil
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		t.admit(raw)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// admit begins the handshake of a connection, if not too many are at theirs.
func (t *Transport) admit(raw net.Conn) {
	conn := t.track(raw)
	if conn == nil {
		_ = raw.Close()
		return
	}
	select {
	case t.pending <- struct{}{}:
	default:
		closeQuietly(conn)
		return
	}
	t.welcomes.Go(func() {
		give, err := t.welcome(conn)
		<-t.pending
		if err != nil {
			t.log.Debug("a connection was refused", "from", conn.RemoteAddr().String(), "error", err)
			closeQuietly(conn)
			return
		}
		give()
	})
}

// welcome finds out whose connection it is, within the handshake timeout, and answers how to hand it over.
func (t *Transport) welcome(conn *trackedConn) (give func(), err error) {
	deadline := time.Now().Add(t.cfg.HandshakeTimeout)
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if t.certs != nil {
		give, err = t.welcomeSecure(conn, deadline)
	} else {
		give, err = t.welcomePlain(conn)
	}
	if err != nil {
		return nil, err
	}
	return give, conn.SetDeadline(time.Time{})
}

func (t *Transport) welcomePlain(conn *trackedConn) (func(), error) {
	read := buffered(conn)
	first, err := read.reader.Peek(1)
	if err != nil {
		return nil, err
	}
	switch k := kind(first[0]); k {
	case kindRaft, kindPeer:
		if _, err := read.reader.Discard(1); err != nil {
			return nil, err
		}
		return t.welcomeNode(conn, read, k, nil)
	case tlsRecord:
		return nil, tellSecureClient(read)
	}
	return t.welcomeClient(conn, read)
}

func (t *Transport) welcomeSecure(conn *trackedConn, deadline time.Time) (func(), error) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	secured := tls.Server(conn, t.certs.serverConfig())
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, tellPlainClient(err)
	}
	state := secured.ConnectionState()
	switch state.NegotiatedProtocol {
	case alpnRaft:
		return t.welcomeNode(conn, secured, kindRaft, &state)
	case alpnPeer:
		return t.welcomeNode(conn, secured, kindPeer, &state)
	}
	return t.welcomeClient(conn, secured)
}

// tellSecureClient answers somebody who speaks TLS to a plain text port with what is no TLS, so that they do not take it
// for a connection that broke. What they sent is read first: closing over it would take the answer back.
func tellSecureClient(conn net.Conn) error {
	refusal := errors.New("a TLS client on a port that speaks plain text")
	header := make([]byte, 5) // the record's: type, version and length
	if _, err := io.ReadFull(conn, header); err != nil {
		return errors.Join(refusal, err)
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint16(header[3:]))); err != nil {
		return errors.Join(refusal, err)
	}
	_, err := io.WriteString(conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks plain text: use http.\n")
	return errors.Join(refusal, err)
}

// tellPlainClient answers somebody who speaks HTTP to a TLS port, so that curl shows what is wrong.
func tellPlainClient(err error) error {
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil {
		return err
	}
	switch string(record.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PRI *":
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks TLS: use https.\n")
	}
	return err
}

// welcomeClient hands a connection to the HTTP server.
func (t *Transport) welcomeClient(tracked *trackedConn, conn net.Conn) (func(), error) {
	if !tracked.take(&t.clientConns, t.cfg.MaxConnections) {
		return nil, fmt.Errorf("%d connections of clients are open already", t.cfg.MaxConnections)
	}
	return func() { t.http.give(conn) }, nil
}

// welcomeNode reads and answers a node's hello. state is nil in plain mode.
func (t *Transport) welcomeNode(tracked *trackedConn, conn net.Conn, k kind, state *tls.ConnectionState) (func(), error) {
	h, err := readHello(conn, k)
	if err != nil {
		return nil, err
	}
	if state != nil && !certifies(state.PeerCertificates[0], h.nodeID) {
		return nil, t.refuse(conn, h, refusedIdentity)
	}
	target, ok := t.peerIn, true
	if k == kindRaft {
		target, ok = t.group(h.group)
	}
	if !ok {
		return nil, t.refuse(conn, h, refusedGroup)
	}
	if !tracked.take(&t.nodeConns, t.cfg.MaxNodeConnections) {
		return nil, t.refuse(conn, h, refusedBusy)
	}
	if _, err := conn.Write([]byte{welcomed}); err != nil {
		return nil, err
	}
	return func() { target.give(&nodeConn{Conn: conn, peer: h.nodeID}) }, nil
}

// refuse answers a hello with why not.
func (t *Transport) refuse(conn net.Conn, h hello, why byte) error {
	level := slog.LevelWarn
	if why == refusedGroup { // as at the start and the end of a node; the other side tells of it if it goes on
		level = slog.LevelDebug
	}
	t.log.Log(context.Background(), level, "a node's connection was refused", "node", h.nodeID, "from", conn.RemoteAddr().String(), "error", refusals[why])
	_, err := conn.Write([]byte{why})
	return errors.Join(refusals[why], err)
}
