package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
)

// carrier is the service that every parcel needs: a real one, on a port of its own, that can be broken.
type carrier struct {
	server *httptest.Server
	broken atomic.Bool
	calls  atomic.Int64
}

func newCarrier() *carrier {
	c := &carrier{}
	c.server = httptest.NewServer(c)
	return c
}

func (c *carrier) close() { c.server.Close() }

// ServeHTTP takes one leg of one parcel.
func (c *carrier) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.calls.Add(1)
	if c.broken.Load() {
		http.Error(w, "the database is down", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// take calls the service.
func (c *carrier) take(ctx context.Context, parcel string, leg []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.server.URL+"/parcels/"+parcel, bytes.NewReader(leg))
	if err != nil {
		return err
	}
	res, err := c.server.Client().Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	said, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(said)))
	}
	return nil
}
