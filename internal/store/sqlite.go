// Package store keeps control's data. It knows SQL and files, and no rules: those are control's.
//
// SQLite is the only kind so far. Queries are standard SQL with $1 placeholders, so that PostgreSQL can share them.
//
// One *SQLite uses three kinds of connection on one file, in WAL mode:
//
//	writer   one, so that writers of this process wait in a fair queue; across processes BEGIN IMMEDIATE decides
//	readers  up to four; they never wait for a writer nor it for them
//	watcher  one, which does nothing but ask for data_version, a counter that only moves when another connection
//	         commits: it therefore sees this process's own writer as well as other processes
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", in pure Go

	"github.com/godwit-vpn/godwit/internal/control"
)

const (
	// busyTimeout is how long to wait for another process's transaction; ours take milliseconds.
	busyTimeout = 10 * time.Second
	maxReaders  = 4
)

// SQLite is a control.Store in one file. Safe for concurrent use, also with other processes that have the file open.
type SQLite struct {
	path   string
	writer *sql.DB
	reader *sql.DB

	mu      sync.Mutex // guards what follows
	watcher *sql.Conn
	// epoch counts the watchers: the counters of two of them cannot be compared.
	epoch  uint64
	closed bool
}

var _ control.Store = (*SQLite)(nil)

// OpenSQLite opens the database file path, or makes it, for its owner only, and brings its schema up to date. A
// database that a newer Godwit has changed is refused and left alone.
func OpenSQLite(ctx context.Context, path string) (*SQLite, error) {
	s, err := openSQLite(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("open database %q: %w", path, explain(err))
	}
	return s, nil
}

func openSQLite(ctx context.Context, path string) (*SQLite, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := prepareFile(path); err != nil {
		return nil, err
	}
	s := &SQLite{path: path}
	if s.writer, err = sql.Open("sqlite", dsn(path, "_txlock", "immediate")); err != nil {
		return nil, err
	}
	s.writer.SetMaxOpenConns(1)
	if s.reader, err = sql.Open("sqlite", dsn(path, "_query_only", "true")); err != nil {
		return nil, errors.Join(err, s.writer.Close())
	}
	s.reader.SetMaxOpenConns(maxReaders + 1) // and the watcher
	s.reader.SetMaxIdleConns(maxReaders + 1)
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin makes the first connections, where everything that is wrong with the file shows. Until the file has turned out
// to be ours, or empty, nothing about it is changed.
func (s *SQLite) begin(ctx context.Context) error {
	err := waitUntilFree(ctx, func() error {
		current, err := check(ctx, s.writer, migrationFiles)
		if err != nil {
			return err
		}
		if _, err := s.writer.ExecContext(ctx, "PRAGMA journal_mode = WAL"); err != nil || current {
			return err
		}
		return migrate(ctx, s.writer, migrationFiles)
	})
	if err != nil {
		return err
	}
	if err := tighten(s.path); err != nil {
		return err
	}
	_, err = s.changes(ctx)
	return err
}

// waitUntilFree repeats try while the database is busy. SQLite does not wait by itself for the lock that the change to
// WAL mode needs, so that several processes opening a new file at once would fail.
func waitUntilFree(ctx context.Context, try func() error) error {
	deadline := time.Now().Add(busyTimeout)
	for {
		err := try()
		if !isBusy(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// prepareFile makes the file where there is none, so that SQLite does not make it with a wider mode. The files beside
// it (-wal, -shm) get their mode from it. A file that SQLite did not write is refused.
func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	const magic = "SQLite format 3\x00"
	head := make([]byte, len(magic))
	switch _, err := io.ReadFull(f, head); {
	case err == io.EOF: // empty: new, or a crash came before the first transaction
		return nil
	case err == io.ErrUnexpectedEOF, err == nil && string(head) != magic:
		return ErrNotDatabase
	case err != nil:
		return err
	}
	return nil
}

// tighten takes access away from other users, in case the file was copied here.
func tighten(path string) error {
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Chmod(path+suffix, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func dsn(path string, more ...string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/x is file:///C:/x
	}
	q := url.Values{
		"_busy_timeout": {fmt.Sprint(busyTimeout.Milliseconds())},
		"_foreign_keys": {"on"},
		"_synchronous":  {"FULL"}, // a key that was handed out, and a revocation, survive a power cut
		"_defensive":    {"1"},
		"_dqs":          {"0"},
		"_error_rc":     {"1"},
		"_pragma": {
			"secure_delete(1)",      // what is deleted is overwritten
			"temp_store(MEMORY)",    // nothing in temporary files
			"trusted_schema(0)",     // a file from elsewhere cannot run functions from its schema
			"journal_size_limit(0)", // what was in the WAL does not lie about in its tail
		},
	}
	for i := 0; i < len(more); i += 2 {
		q.Set(more[i], more[i+1])
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// Close ends all use of the store; calls under way fail or finish. The file is whole at any time, with or without it.
func (s *SQLite) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.dropWatcherLocked()
	return errors.Join(err, s.reader.Close(), s.writer.Close())
}

// View implements control.Store.
func (s *SQLite) View(ctx context.Context, fn func(control.Reader) error) error {
	return s.transact(ctx, s.reader, &sql.TxOptions{ReadOnly: true}, func(q *queries) error { return fn(q) })
}

// Update implements control.Store.
func (s *SQLite) Update(ctx context.Context, fn func(control.Writer) error) error {
	scrub := false
	err := s.transact(ctx, s.writer, nil, func(q *queries) error {
		err := fn(q)
		scrub = q.scrub
		return err
	})
	if err == nil && scrub {
		s.scrub(ctx)
	}
	return err
}

// transact runs fn in a transaction of db. What fn returns comes back as it is.
func (s *SQLite) transact(ctx context.Context, db *sql.DB, o *sql.TxOptions, fn func(*queries) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return s.wrap(err)
	}
	defer tx.Rollback() // after a Commit it does nothing; after a panic in fn it frees the one writer
	if err := fn(&queries{tx: tx, wrap: s.wrap}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return s.wrap(err)
	}
	return nil
}

// scrub moves the WAL into the database and empties it, because deleted rows, and old states of others, live on in it.
// Best effort: a reader may be in the way, and then the next one does it.
func (s *SQLite) scrub(ctx context.Context) {
	var busy, log, moved int
	_ = s.writer.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &log, &moved)
}

// Changes implements control.Store.
func (s *SQLite) Changes(ctx context.Context) (uint64, error) {
	n, err := s.changes(ctx)
	if err != nil {
		return 0, s.wrap(err)
	}
	return n, nil
}

func (s *SQLite) changes(ctx context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, sql.ErrConnDone
	}
	if s.watcher == nil {
		conn, err := s.reader.Conn(ctx)
		if err != nil {
			return 0, err
		}
		s.watcher = conn
		s.epoch++
	}
	var version uint32
	if err := s.watcher.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version); err != nil {
		return 0, errors.Join(err, s.dropWatcherLocked())
	}
	return s.epoch<<32 | uint64(version), nil
}

func (s *SQLite) dropWatcherLocked() error {
	if s.watcher == nil {
		return nil
	}
	err := s.watcher.Close()
	s.watcher = nil
	return err
}

// wrap says which database err is about, and what can be done.
func (s *SQLite) wrap(err error) error { return fmt.Errorf("database %q: %w", s.path, explain(err)) }
