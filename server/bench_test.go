package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	sluicev1 "sluice/api/sluice/v1"
	"sluice/api/sluice/v1/sluicev1connect"
)

// BenchmarkSend measures what the way through this package costs: the gate behind it accepts at once.
func BenchmarkSend(b *testing.B) {
	for _, name := range []string{"connect", "json", "grpc"} {
		b.Run(name, func(b *testing.B) {
			s := serveFake(b, &fakeNode{propose: acceptAll})
			client := sluicev1connect.NewMessageServiceClient(s.h2, s.url, protocols()[name])
			var id atomic.Int64
			b.SetParallelism(32)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m := aMessage(fmt.Sprint(id.Add(1)))
					m.Data = make([]byte, 256)
					if _, err := client.Send(context.Background(), connect.NewRequest(&sluicev1.SendRequest{Messages: []*sluicev1.Message{m}})); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
	b.Run("ingest", func(b *testing.B) {
		s := serveFake(b, &fakeNode{propose: acceptAll})
		benchmarkIngest(b, s.h2, s.url)
	})
}

// benchmarkIngest sends one message a request over one stream.
func benchmarkIngest(b *testing.B, client *http.Client, url string) {
	stream := sluicev1connect.NewMessageServiceClient(client, url, connect.WithGRPC()).Ingest(context.Background())
	b.ReportAllocs()
	go func() {
		for n := range b.N {
			m := aMessage(fmt.Sprint(n))
			m.Data = make([]byte, 256)
			if err := stream.Send(&sluicev1.SendRequest{Messages: []*sluicev1.Message{m}}); err != nil {
				b.Error(err)
				return
			}
		}
		if err := stream.CloseRequest(); err != nil {
			b.Error(err)
		}
	}()
	for range b.N {
		if _, err := stream.Receive(); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		b.Errorf("want the end of the stream, got %v", err)
	}
}
