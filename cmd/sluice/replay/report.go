package replay

import "time"

// Report is how a replay went.
type Report struct {
	Application string `json:"application"`
	// Cases and Events are the log's, as far as it was replayed. Stray events stand outside any case and were left out.
	Cases  int `json:"cases"`
	Events int `json:"events"`
	Stray  int `json:"stray,omitempty"`
	// Sent counts the receipts; Duplicates those of messages that an earlier run had sent.
	Sent       int `json:"sent"`
	Duplicates int `json:"duplicates"`
	// Deferred counts the receipts that say so, Drained the deferred messages that were handled.
	Deferred int `json:"deferred"`
	Drained  int `json:"drained"`
	// Delivered counts the calls of handlers that took effect; Fenced those that came too late to.
	Delivered int `json:"delivered"`
	Fenced    int `json:"fenced"`
	// Entered counts the recoveries that the replay began, Recovered those completed, also of owners that were lost.
	Entered   int `json:"entered"`
	Recovered int `json:"recovered"`
	// Retries counts the calls that were made again because they were not done or their outcome was not known.
	Retries uint64 `json:"retries"`
	// Elapsed is from the first message sent to the last one settled.
	Elapsed   time.Duration `json:"elapsed_ns"`
	PerSecond float64       `json:"per_second"`
	// Verified: the proof was asked for, and Proof is how long it took.
	Verified bool          `json:"verified"`
	Proof    time.Duration `json:"proof_ns,omitempty"`
	// Violations are the first that were found, Wrong is how many there are.
	Violations []string `json:"violations,omitempty"`
	Wrong      int      `json:"wrong"`
}

// report sums the ledger up.
func (r *run) report() *Report {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	report := &Report{
		Application: r.cfg.Application, Cases: len(r.plan.cases), Events: len(r.plan.order), Stray: r.plan.Stray,
		Delivered: l.handled, Drained: l.drained, Fenced: l.fenced, Entered: l.entered, Recovered: l.ended, Elapsed: r.elapsed,
		Verified: r.cfg.Verify, Proof: r.proof,
	}
	for _, b := range l.books {
		for place, receipt := range b.receipts {
			if receipt.Seq == 0 {
				continue
			}
			report.Sent++
			if b.earlier[place] {
				report.Duplicates++
			}
			if receipt.Disposition == "deferred" {
				report.Deferred++
			}
		}
	}
	if seconds := r.elapsed.Seconds(); seconds > 0 {
		report.PerSecond = float64(report.Sent) / seconds
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	report.Violations, report.Wrong = r.violations, r.wrong
	return report
}
