package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"modernc.org/sqlite"

	"sluice/client"
	"sluice/client/inbox"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := server.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// databases are those that every test here runs on.
var databases = map[string]struct {
	open   func(*testing.T) *sql.DB
	tables string
}{
	"SQLite":     {lite, inbox.SQLite},
	"PostgreSQL": {postgres, inbox.PostgreSQL},
}

// lite is a new SQLite database in a file.
func lite(t *testing.T) *sql.DB {
	t.Helper()
	connector, err := sqlite.NewConnector("file:" + filepath.Join(t.TempDir(), "test.db") + "?_pragma=busy_timeout(60000)&_pragma=journal_mode(wal)")
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// everywhere runs a test on each database, whose tables, and one for effects, are made.
func everywhere(t *testing.T, test func(t *testing.T, db *sql.DB)) {
	t.Parallel()
	for name, d := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := d.open(t)
			for _, statements := range []string{d.tables, d.tables, `CREATE TABLE effect (instance TEXT NOT NULL, what TEXT NOT NULL)`} {
				if _, err := db.ExecContext(t.Context(), statements); err != nil {
					t.Fatal(err)
				}
			}
			test(t, db)
		})
	}
}

var account = client.InstanceID{Application: "app", Key: "account 1 ü"}

// message is a delivery whose message's id is its number's.
func message(epoch client.Epoch, lane client.Lane, seq client.Seq) *client.Delivery {
	return &client.Delivery{Instance: account, Epoch: epoch, Lane: lane, Seq: seq, Message: client.Message{ID: fmt.Sprint("m", seq)}}
}

// effect inserts a row.
func effect(ctx context.Context, d *client.Delivery) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO effect (instance, what) VALUES ($1, $2)`, d.Instance.Key, d.Message.ID)
		return err
	}
}

// do is inbox.Do with effect; its outcome in a word.
func do(ctx context.Context, db inbox.DB, d *client.Delivery) string {
	switch repeated, err := inbox.Do(ctx, db, d, effect(ctx, d)); {
	case errors.Is(err, inbox.ErrFenced) && !repeated:
		return "fenced"
	case err != nil:
		return err.Error()
	case repeated:
		return "repeated"
	}
	return "done"
}

func count(t *testing.T, db *sql.DB, query string, args ...any) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnceAndFenced(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		other := message(1, client.LaneNormal, 1)
		other.Instance.Key = "account 2"
		anew := message(9, client.LaneNormal, 1)
		anew.Message.ID = "first of a new life"
		for i, step := range []struct {
			delivery *client.Delivery
			want     string
		}{
			{message(5, client.LaneNormal, 1), "done"},
			{message(5, client.LaneNormal, 1), "repeated"}, // redelivered
			{message(5, client.LaneNormal, 2), "done"},
			{message(5, client.LaneRecovery, 2), "done"}, // another lane
			{other, "done"}, // another instance, of a lower epoch
			{message(7, client.LaneNormal, 2), "repeated"}, // in doubt, delivered under a later epoch
			{message(5, client.LaneNormal, 3), "fenced"},   // a paused worker wakes
			{message(5, client.LaneNormal, 2), "fenced"},   // and looks back
			{message(7, client.LaneNormal, 3), "done"},     // the fenced one left nothing behind
			{anew, "done"},     // forgotten, and began anew
			{anew, "repeated"}, // and again
			{message(9, client.LaneNormal, 0), "the message of app/account 1 ü has number 0; allowed are 1 to 9223372036854775807"},
			{message(0, client.LaneNormal, 9), "inbox: app/account 1 ü has epoch 0; allowed are 1 to 9223372036854775807"},
		} {
			if got := do(t.Context(), db, step.delivery); got != step.want && got != "inbox: "+step.want {
				t.Errorf("step %d: %s, want %s", i, got, step.want)
			}
		}
		if n := count(t, db, `SELECT count(*) FROM effect`); n != 6 {
			t.Errorf("%d effects, want 6", n)
		}
	})
}

func TestNothingIsRecordedOfWhatFailed(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		d, wrong := message(3, client.LaneNormal, 1), errors.New("wrong")
		after := func(end func() error) (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("panic: %v", p)
				}
			}()
			_, err = inbox.Do(t.Context(), db, d, func(tx *sql.Tx) error {
				if err := effect(t.Context(), d)(tx); err != nil {
					return err
				}
				return end()
			})
			return err
		}
		if err := after(func() error { return wrong }); !errors.Is(err, wrong) {
			t.Errorf("failed: %v", err)
		}
		if err := after(func() error { panic("wrong") }); err == nil {
			t.Error("the panic is gone")
		}
		interrupted, cancel := context.WithCancel(t.Context())
		if _, err := inbox.Do(interrupted, db, d, func(*sql.Tx) error { cancel(); return nil }); err == nil {
			t.Error("committed after the context's end")
		}
		if _, err := inbox.Do(interrupted, db, d, func(*sql.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("begun after the context's end: %v", err)
		}
		if n := count(t, db, `SELECT count(*) FROM effect`) + count(t, db, `SELECT count(*) FROM sluice_inbox`) + count(t, db, `SELECT count(*) FROM sluice_inbox_fence`); n != 0 {
			t.Errorf("%d rows are left behind", n)
		}
		if got := do(t.Context(), db, d); got != "done" {
			t.Error(got)
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		const goroutines, messages = 8, 10
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				for seq := range messages {
					d := message(2, client.LaneNormal, client.Seq(seq+1))
					if got := do(t.Context(), db, d); got != "done" && got != "repeated" {
						t.Errorf("goroutine %d, message %d: %s", g, seq, got)
					}
				}
			})
		}
		wg.Wait()
		if n := count(t, db, `SELECT count(*) FROM effect`); n != messages {
			t.Errorf("%d effects of %d messages", n, messages)
		}
	})
}

// inDoubt is a recovery under an epoch.
func inDoubt(epoch client.Epoch, seqs ...client.Seq) *client.Recovery {
	r := &client.Recovery{Instance: account, Epoch: epoch, InDoubt: []client.InDoubt{}}
	for _, s := range seqs {
		r.InDoubt = append(r.InDoubt, client.InDoubt{Lane: client.LaneNormal, Seq: s, Message: client.Message{ID: fmt.Sprint("m", s)}})
	}
	r.InDoubt = append(r.InDoubt, client.InDoubt{Lane: client.LaneRecovery, Seq: 1, Message: client.Message{ID: "m1"}})
	return r
}

func TestProcessedTellsAndFences(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		for _, seq := range []client.Seq{2, 4, 7} {
			if got := do(t.Context(), db, message(5, client.LaneNormal, seq)); got != "done" {
				t.Fatal(got)
			}
		}
		changed := inDoubt(11, 2, 4)
		changed.InDoubt[1].Message.ID = "another life"
		for _, c := range []struct {
			recovery *client.Recovery
			want     client.Seq
		}{
			{inDoubt(6), 0}, {inDoubt(7, 2, 4, 6, 7), 4}, {inDoubt(8, 3, 4), 0}, {inDoubt(9, 4), 4}, {inDoubt(10, 8), 0}, {changed, 2},
		} {
			if got, err := inbox.Processed(t.Context(), db, c.recovery); err != nil || got != c.want {
				t.Errorf("epoch %d: processed through %d, %v, want %d", c.recovery.Epoch, got, err, c.want)
			}
		}
		if got := do(t.Context(), db, message(5, client.LaneNormal, 8)); got != "fenced" {
			t.Errorf("a worker of before the recovery: %s", got)
		}
		if _, err := inbox.Processed(t.Context(), db, inDoubt(6)); !errors.Is(err, inbox.ErrFenced) {
			t.Errorf("a recovery of before: %v", err)
		}
	})
}

// A worker that is cut off is about to commit: the recovery waits for it, and sees what it did.
func TestProcessedWaitsForACommitUnderWay(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		begun, release, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		d := message(5, client.LaneNormal, 1)
		go func() {
			_, err := inbox.Do(t.Context(), db, d, func(tx *sql.Tx) error {
				close(begun)
				<-release
				return effect(t.Context(), d)(tx)
			})
			done <- err
		}()
		<-begun
		told := make(chan client.Seq, 1)
		go func() {
			through, err := inbox.Processed(t.Context(), db, inDoubt(6, 1))
			if err != nil {
				t.Error(err)
			}
			told <- through
		}()
		select {
		case through := <-told:
			t.Errorf("told %d while the commit was under way", through)
		case <-time.After(100 * time.Millisecond):
		}
		close(release)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if through := <-told; through != 1 {
			t.Errorf("processed through %d, want 1", through)
		}
	})
}

func TestPruneAndForget(t *testing.T) {
	everywhere(t, func(t *testing.T, db *sql.DB) {
		for _, lane := range []client.Lane{client.LaneNormal, client.LaneRecovery} {
			for seq := range client.Seq(5) {
				if got := do(t.Context(), db, message(1, lane, seq+1)); got != "done" {
					t.Fatal(got)
				}
			}
		}
		for _, c := range []struct {
			spent         inbox.Spent
			limit         int
			removed, left int64
		}{
			{inbox.Spent{Below: 4, Except: []client.Seq{1, 2, 3}}, 4, 0, 10},
			{inbox.Spent{Below: 4, Except: []client.Seq{2}}, 3, 3, 7},
			{inbox.Spent{Below: 4, Except: []client.Seq{2, 9}}, 3, 1, 6},
			{inbox.Spent{Below: 4}, 4, 2, 4},
			{inbox.Spent{Below: 4}, 4, 0, 4},
			{inbox.Spent{}, 4, 0, 4},
		} {
			removed, err := inbox.Prune(t.Context(), db, account, c.spent, c.limit)
			if left := count(t, db, `SELECT count(*) FROM sluice_inbox`); err != nil || removed != c.removed || int64(left) != c.left {
				t.Errorf("removed %d, %d are left, %v, want %d and %d", removed, left, err, c.removed, c.left)
			}
		}
		for _, limit := range []int{0, inbox.MaxPrune + 1} {
			if _, err := inbox.Prune(t.Context(), db, account, inbox.Spent{Below: 1}, limit); err == nil {
				t.Errorf("a limit of %d", limit)
			}
		}
		if _, err := inbox.Prune(t.Context(), db, account, inbox.Spent{Below: 9, Except: []client.Seq{3, 2}}, 1); err == nil {
			t.Error("exceptions in disorder")
		}
		if got := do(t.Context(), db, message(2, client.LaneNormal, 4)); got != "repeated" {
			t.Errorf("what was not pruned: %s", got)
		}
		if done, err := inbox.Forget(t.Context(), db, account); err != nil || !done {
			t.Errorf("forget: %v, %v", done, err)
		}
		if n := count(t, db, `SELECT count(*) FROM sluice_inbox`) + count(t, db, `SELECT count(*) FROM sluice_inbox_fence`); n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}
