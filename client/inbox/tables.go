package inbox

// PostgreSQL are the statements that make the tables in PostgreSQL 9.5 or later, in the connection's schema. They may
// be run again.
const PostgreSQL = `
CREATE TABLE IF NOT EXISTS sluice_inbox (
	application text   NOT NULL,
	instance    text   NOT NULL,
	lane        text   NOT NULL,
	seq         bigint NOT NULL,
	message     text   NOT NULL,
	epoch       bigint NOT NULL,
	PRIMARY KEY (application, instance, lane, seq)
);
CREATE TABLE IF NOT EXISTS sluice_inbox_fence (
	application text   NOT NULL,
	instance    text   NOT NULL,
	epoch       bigint NOT NULL,
	PRIMARY KEY (application, instance)
);
`

// SQLite are the statements that make the tables in SQLite 3.24 or later. They may be run again. Give connections a
// busy_timeout, or a transaction that meets another one fails at once and its message comes again.
const SQLite = `
CREATE TABLE IF NOT EXISTS sluice_inbox (
	application TEXT    NOT NULL,
	instance    TEXT    NOT NULL,
	lane        TEXT    NOT NULL,
	seq         INTEGER NOT NULL,
	message     TEXT    NOT NULL,
	epoch       INTEGER NOT NULL,
	PRIMARY KEY (application, instance, lane, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sluice_inbox_fence (
	application TEXT    NOT NULL,
	instance    TEXT    NOT NULL,
	epoch       INTEGER NOT NULL,
	PRIMARY KEY (application, instance)
) WITHOUT ROWID;
`

// The statements are the same for both databases. Their parameters are numbered in the order in which they first
// stand, because SQLite's drivers bind them in that order.
const (
	// raise is refused by no row when a higher epoch was there. It locks the instance's row until the transaction
	// ends, so that the transactions of one instance come one after the other.
	raise = `
INSERT INTO sluice_inbox_fence (application, instance, epoch) VALUES ($1, $2, $3)
ON CONFLICT (application, instance) DO UPDATE SET epoch = excluded.epoch WHERE sluice_inbox_fence.epoch <= excluded.epoch`

	// record changes no row when the message was recorded before. Another message under the same number is of an
	// instance that was forgotten and began anew.
	record = `
INSERT INTO sluice_inbox (application, instance, lane, seq, message, epoch) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (application, instance, lane, seq) DO UPDATE SET message = excluded.message, epoch = excluded.epoch
WHERE sluice_inbox.message <> excluded.message`

	recorded = `
SELECT seq, message FROM sluice_inbox
WHERE application = $1 AND instance = $2 AND lane = $3 AND seq >= $4 AND seq <= $5`

	prune = `
DELETE FROM sluice_inbox WHERE (application, instance, lane, seq) IN (
	SELECT application, instance, lane, seq FROM sluice_inbox
	WHERE application = $1 AND instance = $2 AND lane = $3 AND seq >= $4 AND seq < $5 ORDER BY seq LIMIT $6)`

	lower = `DELETE FROM sluice_inbox_fence WHERE application = $1 AND instance = $2`
)
