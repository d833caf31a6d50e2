// Package xes reads event logs in the XES standard (IEEE 1849): cases, each with its events in the order of the log,
// every event with typed attributes. Logs are read as a stream, plain or gzip, one case in memory at a time, and every
// input has a limit, so that a hostile file costs an error and no more.
package xes

import (
	"errors"
	"fmt"
	"time"
)

// ErrStop, returned by a visitor, ends the reading early and without an error.
var ErrStop = errors.New("xes: stop")

// Log is what an event log says of itself, and what was counted while reading it.
type Log struct {
	// Version is the version of the standard that the log declares; empty: none.
	Version string
	// Extensions are the declared sets of attribute keys, such as concept and time.
	Extensions []Extension
	// Classifiers are the declared ways to tell events apart.
	Classifiers []Classifier
	// Globals are the attributes that every event (scope "event") or case (scope "trace") is declared to carry, with
	// their default values. Defaults are not filled in: a case's attributes are those that the file gives it.
	Globals map[string]Attributes
	// Attributes are those of the log as a whole.
	Attributes Attributes
	// Cases and Events count what was handed to the visitor.
	Cases, Events int
	// Stray counts events that stand outside any case; they are not handed out.
	Stray int
}

// Extension is a declared set of attribute keys.
type Extension struct{ Name, Prefix, URI string }

// Classifier names the attribute keys that together give an event its class.
type Classifier struct{ Name, Scope, Keys string }

// Case is one trace: the events of one run of a process.
type Case struct {
	// Name is the case's concept:name, made unique within the log: a second "a" is "a#2". A case without a name is
	// named for its place, "case-1" being the first.
	Name string
	// Attributes are the case's own.
	Attributes Attributes
	// Events stand in the order of the log, whatever their clocks say.
	Events []Event
}

// Event is one thing that happened in a case.
type Event struct {
	// Name is the event's concept:name; empty when it has none.
	Name string
	// Time is its time:timestamp; zero when it has none.
	Time time.Time
	// Attributes are all of the event's, name and time among them.
	Attributes Attributes
}

// Limits bound what is read; a field that is zero takes its default.
type Limits struct {
	// Bytes of the unpacked file. Default 16 GiB.
	Bytes int64
	// Token is the longest single tag or text in bytes. Default 1 MiB.
	Token int64
	// Depth is how deep attributes may nest. Default 32.
	Depth int
	// Attributes of one event, case or log, nested ones included. Default 100,000.
	Attributes int
	// CaseEvents is how many events one case may have. Default 1,000,000.
	CaseEvents int
	// Events of the whole log. Default 100,000,000.
	Events int
}

func (l Limits) withDefaults() Limits {
	l.Bytes = orDefault(l.Bytes, 16<<30)
	l.Token = orDefault(l.Token, 1<<20)
	l.Depth = orDefault(l.Depth, 32)
	l.Attributes = orDefault(l.Attributes, 100_000)
	l.CaseEvents = orDefault(l.CaseEvents, 1_000_000)
	l.Events = orDefault(l.Events, 100_000_000)
	return l
}

func orDefault[N int | int64](n, otherwise N) N {
	if n == 0 {
		return otherwise
	}
	return n
}

// Error is what is wrong with a log, and where.
type Error struct {
	// Line and Column count from 1, Column in bytes.
	Line, Column int
	Err          error
}

// Error begins with the place.
func (e *Error) Error() string { return fmt.Sprintf("line %d, column %d: %v", e.Line, e.Column, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }
