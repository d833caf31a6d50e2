// Package stage is what the examples are played on: a node, a client of it, workers within this process, workers that
// are processes of their own and can be killed, and a narrator.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sluice/client"
)

// TimeMax is how long a story may take.
const TimeMax = 2 * time.Minute

// Quiet is a logger for clients and workers whose warnings belong to the story.
var Quiet = slog.New(slog.DiscardHandler)

// Stage is where one story is played. What it tells may come from many goroutines.
type Stage struct {
	// Client of the node.
	Client *client.Client
	// Addr is the node's address.
	Addr string
	// Dir is a folder for the story's own files, which goes with the stage.
	Dir string

	begun time.Time
	mu    sync.Mutex // guards out
	out   io.Writer
}

// Config says how a story is played.
type Config struct {
	// Out is what it is told to.
	Out io.Writer
	// Node starts the node, with its data in a folder, and tells its address. Default: StartNode.
	Node func(ctx context.Context, dir string) (addr string, stop func() error, err error)
}

// Story is what an example tells. An error means that it did not come out as it should.
type Story func(context.Context, *Stage) error

// Main plays a story and ends the program; or the role that the story gave to this process.
func Main(story Story, roles Roles) {
	roles.Play()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	Exit(Play(ctx, Config{Out: os.Stdout}, story))
}

// Exit ends the program, with an error or without.
func Exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Play plays a story on a node of its own, which is ended with it, as its folder is.
func Play(ctx context.Context, cfg Config, story Story) (err error) {
	ctx, cancel := context.WithTimeout(ctx, TimeMax)
	defer cancel()
	dir, err := os.MkdirTemp("", "sluice-example-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := &Stage{Dir: dir, begun: time.Now(), out: cfg.Out}
	start := cfg.Node
	if start == nil {
		start = StartNode
	}
	s.Title("A node starts")
	addr, stop, err := start(ctx, filepath.Join(dir, "node"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	s.Addr = addr
	if s.Client, err = client.Dial(ctx, client.Config{Addresses: []string{addr}, Logger: Quiet}); err != nil {
		return err
	}
	defer s.Client.Close()
	s.Say("ready after %v at %s", time.Since(s.begun).Round(time.Millisecond), addr)
	return story(ctx, s)
}

// Chapters is a story of several parts, one after the other.
func Chapters(chapters ...Story) Story {
	return func(ctx context.Context, s *Stage) error {
		for _, chapter := range chapters {
			if err := chapter(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
}

// Title tells what comes now, and when.
func (s *Stage) Title(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n%5.1fs  %s\n", time.Since(s.begun).Seconds(), fmt.Sprintf(format, args...))
}

// Say tells what happens.
func (s *Stage) Say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "        "+format+"\n", args...)
}

// Work runs a worker in this process until stop, which hands its instances back.
func (s *Stage) Work(cfg client.WorkerConfig) (stop func() error, err error) {
	w, err := s.Client.NewWorker(cfg)
	if err != nil {
		return nil, err
	}
	return w.Start().Stop, nil
}

// Asked is the type of messages that ask an instance for its state, which Look sends.
const Asked = "state.asked"

// Look asks an instance for its state. Its handler replies to Asked with it as JSON.
func Look[S any](ctx context.Context, s *Stage, id client.InstanceID) (state S, err error) {
	status, _, err := s.Client.Ask(ctx, client.Message{Application: id.Application, Instance: id.Key, Type: Asked}, nil)
	if err != nil {
		return state, err
	}
	return state, status.DecodeReply(&state)
}
