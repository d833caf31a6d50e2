package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
)

// Log takes the rows of a run, in the order in which they come, from many goroutines. A row is with the writer when the
// method that gave it has returned, so that a process that is killed has lost nothing of what it had noted.
type Log struct {
	now func() time.Duration

	// mu is held for a row at a time; it guards all below.
	mu   sync.Mutex
	out  io.Writer
	rows int
	err  error
}

// NewLog makes a log. now is the world's time; out takes each row with one Write.
func NewLog(out io.Writer, now func() time.Duration) *Log { return &Log{out: out, now: now} }

// add stamps a row within the lock, so that rows are in the order of their times.
func (l *Log) add(r Row) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.At = l.now()
	l.write(r)
	return r.At
}

func (l *Log) write(r Row) {
	line, err := json.Marshal(r)
	if err == nil {
		_, err = l.out.Write(append(line, '\n'))
	}
	l.rows++
	if err != nil && l.err == nil {
		l.err = fmt.Errorf("history: %w", err)
	}
}

// End notes that the history is whole: nothing comes after it.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(Row{At: l.now(), End: &End{Rows: l.rows}})
}

// Err is the first trouble with the writer: a history with holes must not be judged.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Call notes that an operation begins.
func (l *Log) Call(c Call) { l.add(Row{Call: &c}) }

// Return notes what an operation was answered.
func (l *Log) Return(r Return) { l.add(Row{Return: &r}) }

// Worker notes what a worker saw or did.
func (l *Log) Worker(e WorkerEvent) { l.add(Row{Worker: &e}) }

// Fault notes a stage of a fault.
func (l *Log) Fault(e FaultEvent) { l.add(Row{Fault: &e}) }

// Mark notes a moment, and tells when it was.
func (l *Log) Mark(m Mark) time.Duration { return l.add(Row{Mark: &m}) }

// Audit notes what a node applied, now.
func (l *Log) Audit(a Audit) { l.add(Row{Audit: &a}) }

// Append takes over rows that others stamped: a worker's process, or a node.
func (l *Log) Append(r Row) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write(r)
}

// rowBytesMost bounds a line: an entry of the log is at most some 16 MiB, and comes in base64.
const rowBytesMost = 64 << 20

// Rows hands over each row of a stream of JSON lines. A last line that was cut off by a crash is passed over; any other
// that cannot be read is an error, and so is a line of more than 64 MiB.
func Rows(in io.Reader, take func(Row) error) error {
	lines := bufio.NewReaderSize(in, 1<<20)
	for number := 1; ; number++ {
		line, err := readLine(lines)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("history: line %d: %w", number, err)
		}
		var r Row
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("history: line %d: %w", number, err)
		}
		if err := take(r); err != nil {
			return err
		}
	}
}

// readLine reads a whole line; io.EOF if there is none, or only a piece.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case err != bufio.ErrBufferFull:
			return nil, err
		case len(line) > rowBytesMost:
			return nil, fmt.Errorf("longer than %d bytes", rowBytesMost)
		}
	}
}
