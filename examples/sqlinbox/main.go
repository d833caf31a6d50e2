// Command sqlinbox shows effects in a database of your own that take place once: the worker writes an account's balance
// to SQLite and is killed after the commit and before it can settle the message. The recovery handler of the next worker
// asks the inbox in the same database what took effect, and the rest is delivered.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"modernc.org/sqlite"

	"sluice/client"
	"sluice/client/inbox"
	"sluice/examples/internal/stage"
)

// application is the sample application: accounts, each an instance.
const application = "accounts"

// lease is how long the cluster waits for a silent worker. It is short, so that the story is.
const lease = 2 * time.Second

// ada is the account, and deposits are what is paid in.
var (
	ada      = client.InstanceID{Application: application, Key: "ada"}
	deposits = []int{10, 20, 30, 40, 50}
)

var roles = stage.Roles{"worker": work}

func main() { stage.Main(sqlinbox, roles) }

// openBank opens the database and makes its tables: the inbox's, and our own.
func openBank(ctx context.Context, file string) (*sql.DB, error) {
	connector, err := sqlite.NewConnector("file:" + file + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)")
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	_, err = db.ExecContext(ctx, inbox.SQLite+`
CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS movement (account TEXT NOT NULL, amount INTEGER NOT NULL);`)
	if err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	return db, nil
}

// bank is the file of the database.
func bank(s *stage.Stage) string { return filepath.Join(s.Dir, "bank.db") }

// sqlinbox tells the story.
func sqlinbox(ctx context.Context, s *stage.Stage) error {
	return stage.Chapters(declare, death, recovery, proof)(ctx, s)
}

func declare(ctx context.Context, s *stage.Stage) error {
	s.Title("The application %q is declared; the bank's database is %s", application, filepath.Base(bank(s)))
	_, err := s.Client.Applications().Apply(ctx, client.Application{Name: application, Delivery: client.DeliveryPolicy{Window: 4}})
	return err
}

// death lets a worker commit a message's effects, and kills it before it has settled it.
func death(ctx context.Context, s *stage.Stage) error {
	s.Title("Five deposits are sent to %s; worker 1 starts", ada)
	for i, amount := range deposits {
		if _, err := s.Client.Send(ctx, client.Message{
			Application: ada.Application, Instance: ada.Key, ID: fmt.Sprint("d", i+1), Type: "deposit", Data: []byte(strconv.Itoa(amount)),
		}); err != nil {
			return err
		}
	}
	w, err := s.Start(ctx, "worker 1", "worker", bank(s), "dies")
	if err != nil {
		return err
	}
	defer w.Kill()
	if err := w.Until(ctx, "stuck"); err != nil {
		return err
	}
	s.Title("The deposit is committed, and Sluice does not know of it: kill -9 %d", w.PID())
	w.Kill()
	i, err := s.Client.Instances().WaitUntil(ctx, ada, func(i client.Instance) bool { return i.Mode == client.ModeRecovery })
	if err != nil {
		return err
	}
	s.Say("%s: mode %s, cause: %s", ada, i.Mode, i.Cause)
	for m, err := range s.Client.Instances().ListMessages(ctx, ada, client.ListMessages{}) {
		if err != nil {
			return err
		}
		s.Say("number %d, %s of %s: in doubt: %v", m.Seq, m.Message.Type, m.Message.Data, m.InDoubt)
	}
	return show(ctx, s)
}

// recovery lets another worker find out what took effect.
func recovery(ctx context.Context, s *stage.Stage) error {
	s.Title("Worker 2 starts")
	w, err := s.Start(ctx, "worker 2", "worker", bank(s), "lives")
	if err != nil {
		return err
	}
	defer w.Kill()
	for i := range deposits {
		if _, err := s.Client.Await(ctx, ada, fmt.Sprint("d", i+1)); err != nil {
			return err
		}
	}
	return w.Stop(ctx)
}

// books is what the database says.
type books struct {
	Balance, Movements, Records int
}

func readBooks(ctx context.Context, db *sql.DB) (b books, err error) {
	row := db.QueryRowContext(ctx, `SELECT
		(SELECT coalesce(sum(balance), 0) FROM account WHERE name = $1), (SELECT count(*) FROM movement WHERE account = $1),
		(SELECT count(*) FROM sluice_inbox WHERE application = 'accounts' AND instance = $1)`, ada.Key)
	return b, row.Scan(&b.Balance, &b.Movements, &b.Records)
}

func show(ctx context.Context, s *stage.Stage) error {
	db, err := openBank(ctx, bank(s))
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := readBooks(ctx, db)
	if err != nil {
		return err
	}
	s.Say("the bank says: balance %d after %d movements; the inbox has %d records", b.Balance, b.Movements, b.Records)
	return nil
}

// proof compares the balance with what was paid in, and clears the inbox of what nobody will ask for any more.
func proof(ctx context.Context, s *stage.Stage) error {
	if err := show(ctx, s); err != nil {
		return err
	}
	db, err := openBank(ctx, bank(s))
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := readBooks(ctx, db)
	if err != nil {
		return err
	}
	sum := 0
	for _, amount := range deposits {
		sum += amount
	}
	if b.Balance != sum || b.Movements != len(deposits) {
		return fmt.Errorf("the bank has %+v, and %d were paid in by %d deposits", b, sum, len(deposits))
	}
	s.Title("Every deposit took effect once: %d. What is settled needs no record any more", sum)
	spent, err := inbox.Settled(ctx, s.Client, ada)
	if err != nil {
		return err
	}
	removed, err := inbox.Prune(ctx, db, ada, spent, inbox.MaxPrune)
	s.Say("%d records below number %d were removed", removed, spent.Below)
	return err
}
