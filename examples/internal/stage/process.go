package stage

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"sluice/client"
)

// roleWord is the first argument of a process that plays a role.
const roleWord = "role"

// Roles are what processes started by Stage.Start do, by name.
type Roles map[string]func(context.Context, *Role) error

// Role is one process's part.
type Role struct {
	// Client of the node.
	Client *client.Client
	// Args are those of Start.
	Args []string
	out  io.Writer
}

// Cue says something that Process.Until waits for: a word for the story, and a text for people.
func (r *Role) Cue(word, format string, args ...any) {
	fmt.Fprintf(r.out, "%s %s\n", word, fmt.Sprintf(format, args...))
}

// Ready is the word that a role's worker says when it has a session.
const Ready = "ready"

// Work runs a worker until ctx ends.
func (r *Role) Work(ctx context.Context, cfg client.WorkerConfig) error {
	cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	cfg.OnEvent = func(e client.Event) {
		if e.Kind == client.EventSessionOpened {
			r.Cue(Ready, "hosts %s under a lease", cfg.Application)
		}
	}
	w, err := r.Client.NewWorker(cfg)
	if err != nil {
		return err
	}
	if err := w.Run(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// Play plays the role that this process was started for, and ends it; without one it returns.
func (roles Roles) Play() {
	if len(os.Args) < 4 || os.Args[1] != roleWord {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	Exit(roles.play(ctx, os.Args[2], os.Args[3], os.Args[4:]))
}

func (roles Roles) play(ctx context.Context, name, addr string, args []string) error {
	role, ok := roles[name]
	if !ok {
		return fmt.Errorf("there is no role %q", name)
	}
	c, err := client.Dial(ctx, client.Config{Addresses: []string{addr}, Logger: Quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	return role(ctx, &Role{Client: c, Args: args, out: os.Stdout})
}

// Process is a role at work in a process of its own.
type Process struct {
	cmd  *exec.Cmd
	cues chan string // words said, one a line
	gone chan struct{}
	once sync.Once
}

// Start starts this program again in a role; what it says is told under a name. It returns when the role's worker is
// ready.
func (s *Stage) Start(ctx context.Context, name, role string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{roleWord, role, s.Addr}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, cues: make(chan string, 1000), gone: make(chan struct{})}
	go p.listen(out, func(line string) { s.Say("%s: %s", name, line) })
	if err := p.Until(ctx, Ready); err != nil {
		p.Kill()
		return nil, err
	}
	return p, nil
}

// listen passes on what the role says, until it is gone.
func (p *Process) listen(out io.Reader, tell func(string)) {
	defer close(p.gone)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, text, _ := strings.Cut(lines.Text(), " ")
		tell(text)
		p.cues <- word
	}
	_ = p.cmd.Wait() // how it ended is no news: it was killed, or told to stop
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Until waits for the role to say a word.
func (p *Process) Until(ctx context.Context, word string) error {
	for {
		select {
		case said := <-p.cues:
			if said == word {
				return nil
			}
		case <-p.gone:
			if !p.saidLast(word) {
				return fmt.Errorf("the process ended before it said %q", word)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("the process never said %q: %w", word, ctx.Err())
		}
	}
}

// saidLast says whether a process that is gone had said a word that nobody has waited for yet.
func (p *Process) saidLast(word string) bool {
	for {
		select {
		case said := <-p.cues:
			if said == word {
				return true
			}
		default:
			return false
		}
	}
}

// Kill is kill -9; a second time it does nothing.
func (p *Process) Kill() {
	p.once.Do(func() { _ = p.cmd.Process.Kill() }) // it may be gone already
	<-p.gone
}

// Stop asks the process to end in good order, and waits for it.
func (p *Process) Stop(ctx context.Context) error {
	p.once.Do(func() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }) // it may be gone already
	select {
	case <-p.gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the process did not stop: %w", ctx.Err())
	}
}
