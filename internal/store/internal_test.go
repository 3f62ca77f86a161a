package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/godwit-vpn/godwit/internal/control"
)

func openTemp(t *testing.T) *SQLite {
	t.Helper()
	s, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func insert(ctx context.Context, s *SQLite, n int) error {
	return s.Update(ctx, func(w control.Writer) error {
		id := [8]byte{byte(n >> 8), byte(n)}
		return w.InsertKey(ctx, control.AccessKey{ID: id, Name: fmt.Sprint("key ", n), MaxDevices: 1})
	})
}

// What SQLite does not refuse it may still have ignored: ask it.
func TestPragmasAreInForce(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	for name, tc := range map[string]struct {
		db   *sql.DB
		want map[string]string
	}{
		"writer": {s.writer, map[string]string{"query_only": "0"}},
		"reader": {s.reader, map[string]string{"query_only": "1"}},
	} {
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "secure_delete": "1", "temp_store": "2", "foreign_keys": "1",
			"trusted_schema": "0", "busy_timeout": "10000", "journal_size_limit": "0",
		} {
			tc.want[pragma] = want
		}
		for pragma, want := range tc.want {
			var got string
			if err := tc.db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("%s: %s is %q, %v; want %q", name, pragma, got, err, want)
			}
		}
	}
	if err := s.View(t.Context(), func(r control.Reader) error {
		return r.(control.Writer).RevokeKey(t.Context(), [8]byte{1})
	}); err == nil {
		t.Error("a view could write")
	}
}

// A row holds what the operator typed, random ids, a day, a month and its sum of bytes, and flags. A new column is a
// new answer to "what does a raided gateway tell?": think, then add it here.
func TestWhatIsKept(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	rows, err := s.reader.QueryContext(t.Context(), `SELECT m.name || '.' || c.name
		FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var got []string
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		got = append(got, column)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	want := "access_key.id access_key.name access_key.max_devices access_key.expires access_key.revoked " +
		"access_key.month_limit device.id device.key_id device.expires_day device.revoked " +
		"traffic.month traffic.key_id traffic.device_id traffic.bytes"
	if strings.Join(got, " ") != want {
		t.Errorf("columns are\n%s, want\n%s", strings.Join(got, " "), want)
	}
}

func TestFull(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	if err := insert(t.Context(), s, 0); err != nil {
		t.Fatal(err)
	}
	// A page limit makes SQLite fail with the very code that a full disk gives it.
	if _, err := s.writer.ExecContext(t.Context(), "PRAGMA max_page_count = 12"); err != nil {
		t.Fatal(err)
	}
	kept := 1
	var err error
	for ; err == nil && kept < 10_000; kept++ {
		err = insert(t.Context(), s, kept)
	}
	kept-- // the last one failed
	if !errors.Is(err, ErrFull) {
		t.Fatalf("error is %v, want %v", err, ErrFull)
	}
	if _, err := s.writer.ExecContext(t.Context(), "PRAGMA max_page_count = 1000"); err != nil {
		t.Fatal(err)
	}
	if err := insert(t.Context(), s, kept); err != nil {
		t.Errorf("after there was space again: %v", err)
	}
	var n int
	err = s.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM access_key").Scan(&n)
	if err != nil || n != kept+1 {
		t.Errorf("%d keys, %v; want %d", n, err, kept+1)
	}
}

func TestBusy(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	other, err := OpenSQLite(t.Context(), s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.writer.ExecContext(t.Context(), "PRAGMA busy_timeout = 20"); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(control.Writer) error {
		if err := insert(t.Context(), other, 1); !errors.Is(err, ErrBusy) {
			t.Errorf("error is %v, want %v", err, ErrBusy)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := insert(t.Context(), other, 1); err != nil {
		t.Errorf("after the lock was free: %v", err)
	}
}

// The watcher's connection may break, and its counter starts anew: that has to look like a change.
func TestChangesAfterLostWatcher(t *testing.T) {
	t.Parallel()
	s := openTemp(t)
	before, err := s.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.watcher.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Changes(t.Context()); err == nil {
		t.Errorf("a broken watcher gave %d", n)
	}
	after, err := s.Changes(t.Context())
	if err != nil || after == before {
		t.Errorf("the counter is %d, %v; want another one than %d", after, err, before)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("sqlite", dsn(filepath.Join(t.TempDir(), "m.db"), "_txlock", "immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	script := func(sql string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(sql)} }
	files := fstest.MapFS{
		"migrations/0001_a.sql": script("CREATE TABLE a (x TEXT); INSERT INTO a VALUES ('kept');"),
	}
	current := func() bool {
		t.Helper()
		is, err := check(t.Context(), db, files)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	step := func() {
		t.Helper()
		if current() {
			t.Fatal("nothing is pending")
		}
		for range 2 { // the second time there is nothing to do
			if err := migrate(t.Context(), db, files); err != nil {
				t.Fatal(err)
			}
			if !current() {
				t.Fatal("something is still pending")
			}
		}
	}
	step()
	files["migrations/0002_b.sql"] = script("CREATE TABLE b (y TEXT); INSERT INTO b SELECT x FROM a;")
	step()
	// One that fails half-way leaves nothing behind, not even the one before it.
	files["migrations/0003_c.sql"] = script("CREATE TABLE c (z TEXT);")
	files["migrations/0004_d.sql"] = script("CREATE TABLE d (z TEXT); CREATE TABLE a (x TEXT);")
	if err := migrate(t.Context(), db, files); err == nil || !strings.Contains(err.Error(), "0004_d.sql") {
		t.Fatalf("error is %v, want one that names the file", err)
	}
	var tables, y string
	err = db.QueryRowContext(t.Context(),
		"SELECT group_concat(name, ' ') FROM sqlite_schema WHERE type = 'table'").Scan(&tables)
	if err != nil || tables != "a b" {
		t.Errorf("tables are %q, %v; want a and b", tables, err)
	}
	if err := db.QueryRowContext(t.Context(), "SELECT y FROM b").Scan(&y); err != nil || y != "kept" {
		t.Errorf("row is %q, %v; want kept", y, err)
	}
	delete(files, "migrations/0004_d.sql")
	step()
	// An older program meets the same file.
	delete(files, "migrations/0003_c.sql")
	if _, err := check(t.Context(), db, files); !errors.Is(err, ErrNewer) {
		t.Errorf("error is %v, want %v", err, ErrNewer)
	}
}

// A database of the first release, with a key and a device in it, is opened by this one: nothing of it is limited.
func TestMigrateQuotas(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "godwit.db")
	first, err := migrationFiles.ReadFile("migrations/0001_keys_and_devices.sql")
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", dsn(path, "_txlock", "immediate"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	files := fstest.MapFS{"migrations/0001_keys_and_devices.sql": &fstest.MapFile{Data: first}}
	if err := migrate(t.Context(), db, files); err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), `INSERT INTO access_key (id, name, max_devices, expires)
		VALUES ('a000000000000001', 'anna', 3, 0);
		INSERT INTO device (id, key_id, expires_day) VALUES ('01000000000000000000000000000000', 'a000000000000001', 20000)`)
	if err != nil {
		t.Fatal(err)
	}
	s, err := OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	key := control.AccessKey{ID: [8]byte{0xa0, 7: 1}, Name: "anna", MaxDevices: 3}
	carried := control.Traffic{KeyID: key.ID, Device: [16]byte{1}, Bytes: 12}
	err = s.Update(t.Context(), func(w control.Writer) error {
		if got, err := w.Key(t.Context(), key.ID); err != nil || got != key {
			t.Errorf("the key is %+v, %v; want %+v", got, err, key)
		}
		if err := w.AddTraffic(t.Context(), 202703, []control.Traffic{carried}); err != nil {
			return err
		}
		got, err := w.Traffic(t.Context(), 202703)
		if len(got) != 1 || got[0] != carried {
			t.Errorf("traffic is %+v, want %+v", got, carried)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
