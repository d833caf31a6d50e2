package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"regexp"

	"google.golang.org/protobuf/encoding/protojson"

	sluicev1 "sluice/api/sluice/v1"
)

const (
	// maxExchangeLine bounds a line that is imported, bytes.
	maxExchangeLine = 64 << 20
	// importStep is how many messages are sent at once, or fewer with maxBatchBytes of content: at most so many may be
	// accepted behind one that was refused.
	importStep = 64
)

// Export writes messages of an instance as JSON lines, in order, and tells how many. A line is a ListedMessage of the
// public contract, as protojson writes it: the message, its sequence number, lane, status, attempts and edits.
func (i Instances) Export(ctx context.Context, w io.Writer, id InstanceID, l ListMessages) (int, error) {
	return export(w, i.messages(ctx, id, l))
}

// ExportDeadLetters writes dead letters of many instances as Export does.
func (i Instances) ExportDeadLetters(ctx context.Context, w io.Writer, l ListDeadLetters) (int, error) {
	return export(w, mapped(i.deadLetters(ctx, l), (*sluicev1.DeadLettered).GetMessage))
}

func export(w io.Writer, messages iter.Seq2[*sluicev1.ListedMessage, error]) (n int, err error) {
	var line bytes.Buffer
	for m, err := range messages {
		if err != nil {
			return n, err
		}
		raw, err := protojson.Marshal(m)
		if err != nil {
			return n, fmt.Errorf("client: export message %s: %w", m.GetMessage().GetId(), err)
		}
		line.Reset()
		// protojson varies its spaces on purpose; what is exported does not.
		if err := json.Compact(&line, raw); err != nil {
			return n, fmt.Errorf("client: export message %s: %w", m.GetMessage().GetId(), err)
		}
		line.WriteByte('\n')
		if _, err := w.Write(line.Bytes()); err != nil {
			return n, fmt.Errorf("client: export: %w", err)
		}
		n++
	}
	return n, nil
}

// Imported counts what became of the messages of an import.
type Imported struct {
	// Accepted anew, and Duplicates: accepted before, under the same id.
	Accepted, Duplicates int
	// Refused messages.
	Refused []Refused
}

// Refused is a message of an import that the gate refused.
type Refused struct {
	// Line counts from 1.
	Line      int
	MessageID string
	Err       *Error
}

// Import sends the messages of JSON lines that Export wrote, in their order, through the gate: to one instance, or, if to
// is zero, each to the instance that it names. Ids are kept, so that an import that was broken off is repeated without
// harm. It ends soon after a message that is refused, for what follows may depend on it; at most 64 messages behind it may
// have been accepted. A line may have at most 64 MiB. The error is of the input or of the calls, not of a refusal.
func (i Instances) Import(ctx context.Context, r io.Reader, to InstanceID) (Imported, error) {
	if to != (InstanceID{}) {
		if err := checkInstance(to); err != nil {
			return Imported{}, err
		}
	}
	im := &importing{client: i.c, to: to}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxExchangeLine)
	for len(im.done.Refused) == 0 && lines.Scan() {
		im.line++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if err := im.take(ctx, lines.Bytes()); err != nil {
			return im.done, err
		}
	}
	switch err := lines.Err(); {
	case len(im.done.Refused) > 0:
		return im.done, nil // what follows is not wanted any more, be it readable or not
	case errors.Is(err, bufio.ErrTooLong):
		return im.done, refuse(ErrBadField, "line %d is longer than %d bytes, the most that is read", im.line+1, maxExchangeLine)
	case err != nil:
		return im.done, fmt.Errorf("client: import: %w", err)
	}
	return im.done, im.flush(ctx)
}

// importing is an Import at work.
type importing struct {
	client *Client
	to     InstanceID
	line   int
	batch  []Message
	bytes  int   // of the data in batch
	lines  []int // where each of batch stands
	done   Imported
}

func (im *importing) take(ctx context.Context, line []byte) error {
	listed := &sluicev1.ListedMessage{}
	if err := protojson.Unmarshal(line, listed); err != nil {
		return refuse(ErrBadField, "line %d is no exported message: %s", im.line, whyUnread(line, err))
	}
	m := messageOf(listed.GetMessage())
	if im.to != (InstanceID{}) {
		m.Application, m.Instance = im.to.Application, im.to.Key
	}
	if err := checkMessage(&m); err != nil {
		return refuse(asError(err).Reason, "line %d: %s", im.line, asError(err).Message)
	}
	im.batch, im.lines, im.bytes = append(im.batch, m), append(im.lines, im.line), im.bytes+len(m.Data)
	if len(im.batch) < importStep && im.bytes < maxBatchBytes {
		return nil
	}
	return im.flush(ctx)
}

// protoNoise is what protojson puts before what is wrong. Some builds of it write a no-break space, so that nobody relies
// on its words.
var protoNoise = regexp.MustCompile(`^proto:[\s\x{a0}]*(syntax error[\s\x{a0}]*)?(\(line \d+:\d+\):[\s\x{a0}]*)?`)

// whyUnread says why a line is no message.
func whyUnread(line []byte, err error) string {
	if !json.Valid(line) {
		return "it is no JSON object"
	}
	return protoNoise.ReplaceAllString(err.Error(), "")
}

func (im *importing) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	results, err := im.client.SendBatch(ctx, im.batch)
	if err != nil {
		return fmt.Errorf("client: import: from line %d on: %w", im.lines[0], err)
	}
	for n, res := range results {
		switch {
		case res.Err != nil:
			im.done.Refused = append(im.done.Refused, Refused{Line: im.lines[n], MessageID: im.batch[n].ID, Err: asError(res.Err)})
		case res.Receipt.Duplicate:
			im.done.Duplicates++
		default:
			im.done.Accepted++
		}
	}
	im.batch, im.lines, im.bytes = im.batch[:0], im.lines[:0], 0
	return nil
}
