package ledger

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// version is that of the schema this build writes.
const version = 1

// step brings the schema from the version before to its own. Builds from reads on can use the result.
type step struct {
	version, reads int
	sql            string
}

var steps = []step{{1, 1, `
create table checkpoint (
	name text primary key, revision bigint not null, state bytea not null, at timestamptz not null default now());

create table migration (
	migration text primary key, fingerprint text not null default '', since timestamptz not null default now(),
	backfilled_at timestamptz, backfilled_position bigint);

create table counter (
	migration text, comparison text, fingerprint text, counter text, detail text,
	n bigint not null, first_at timestamptz not null, last_at timestamptz not null,
	primary key (migration, comparison, fingerprint, counter, detail));

create table seen (
	migration text, comparison text, fingerprint text, subject bytea, version bigint not null, verdict text not null,
	primary key (migration, comparison, fingerprint, subject));

create table latency (
	migration text, comparison text, fingerprint text, side text, buckets bigint[] not null,
	primary key (migration, comparison, fingerprint, side));

create table tally (
	migration text, route text, replica text, epoch bigint, fingerprint text,
	n bigint not null, body jsonb not null, base jsonb, at timestamptz not null,
	primary key (migration, route, replica, epoch, fingerprint));

create table finding (
	id bigint generated always as identity primary key,
	migration text not null, comparison text not null, cause text not null, class text not null, place text not null,
	why text not null, state text not null, count bigint not null,
	first_seen timestamptz not null, last_seen timestamptz not null, fixed_at timestamptz, reopened_at timestamptz,
	reason text not null default '', owner text not null default '', accepted_at timestamptz, expires_at timestamptz,
	fingerprint text not null, more_at timestamptz,
	unique (migration, comparison, cause, class, place));

create table finding_key (
	finding bigint not null references finding on delete cascade,
	key text not null, subject text not null, entity text not null, path text not null,
	since timestamptz not null, last_seen timestamptz not null, count bigint not null, position bigint not null,
	primary key (finding, key, subject, entity, path));

create table example (
	finding bigint not null references finding on delete cascade, n bigint not null,
	at timestamptz not null, body jsonb not null,
	primary key (finding, n));

create table sweep (
	migration text, comparison text, fingerprint text,
	started_at timestamptz not null, start_position bigint not null, cursor bytea,
	verified bigint not null, different bigint not null, unverified bigint not null, unverified_keys jsonb not null,
	position bigint not null, updated_at timestamptz not null,
	completed_at timestamptz, completed jsonb,
	primary key (migration, comparison));

create table source (
	migration text, "table" text, "column" text, dark bigint not null, unattributed bigint not null,
	first_at timestamptz not null, last_at timestamptz not null, last_position bigint not null,
	primary key (migration, "table", "column"));

create table declared (
	migration text, "table" text, "column" text, status text not null,
	primary key (migration, "table", "column"));

create table reading (
	migration text, partition int, position bigint not null, at timestamptz not null,
	primary key (migration, partition));

create table gap (
	migration text, id text, replica text not null, reason text not null,
	opened_at timestamptz not null, closed_at timestamptz, writes bigint not null, at_least boolean not null,
	repaired_at timestamptz, primary key (migration, id));

create table projection (
	migration text, generation int, partition int, state text not null, position bigint not null,
	note text not null, at timestamptz not null,
	primary key (migration, generation, partition));
`}}

// migrate creates the schema or brings it up to date, one opener at a time.
func migrate(ctx context.Context, tx pgx.Tx) error {
	const lock = 0x62616e79616e // "banyan"
	if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, int64(lock)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `create schema if not exists banyan_ledger`); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `create table if not exists banyan_ledger.meta (version int not null, reads int not null)`); err != nil {
		return err
	}
	var have, reads int
	err := tx.QueryRow(ctx, `select coalesce(max(version), 0), coalesce(max(reads), 0) from banyan_ledger.meta`).Scan(&have, &reads)
	if err != nil {
		return err
	}
	if reads > version {
		return fmt.Errorf("the schema banyan_ledger has version %d, which builds that write version %d cannot use: update this one", have, version)
	}
	if _, err := tx.Exec(ctx, `set local search_path to banyan_ledger`); err != nil {
		return err
	}
	for _, s := range steps {
		if s.version <= have {
			continue
		}
		if _, err := tx.Exec(ctx, s.sql); err != nil {
			return fmt.Errorf("to version %d: %w", s.version, err)
		}
		if _, err := tx.Exec(ctx, `insert into meta values ($1, $2)`, s.version, s.reads); err != nil {
			return err
		}
	}
	return nil
}
