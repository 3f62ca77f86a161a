package store_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/store"
)

func insertKey(ctx context.Context, s control.Store, n int) error {
	return s.Update(ctx, func(w control.Writer) error {
		id := [8]byte{byte(n >> 8), byte(n)}
		return w.InsertKey(ctx, control.AccessKey{ID: id, Name: fmt.Sprint("key ", n), MaxDevices: 1})
	})
}

// execRaw runs SQL that ours never would on the file at path.
func execRaw(t *testing.T, path, script string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), script); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFileModes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("permission bits say nothing on Windows")
	}
	path := filepath.Join(t.TempDir(), "godwit.db")
	private := func() {
		t.Helper()
		for _, suffix := range []string{"", "-wal", "-shm"} {
			info, err := os.Stat(path + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v, want 0600", info.Name(), info.Mode())
			}
		}
	}
	s, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := insertKey(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	private()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil { // as cp from a backup leaves it
		t.Fatal(err)
	}
	s = open(t, path)
	if err := insertKey(t.Context(), s, 2); err != nil {
		t.Fatal(err)
	}
	private()
}

func TestOddPaths(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := []string{"a b.db", "100%41.db", "what?mode=memory", "tag#1.db", "it's.db", "a&b=c;d.db", "日本.db"}
	for _, name := range names {
		if runtime.GOOS == "windows" && name == "what?mode=memory" {
			continue
		}
		path := filepath.Join(dir, name)
		s, err := store.OpenSQLite(t.Context(), path)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		if err := insertKey(t.Context(), s, 1); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 {
			t.Errorf("%q is not where it should be: %v", name, err)
		}
	}
}

func TestRefusesWhatIsNotOurs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.db")
	execRaw(t, foreign, "CREATE TABLE moz_places (url TEXT)")
	named := filepath.Join(dir, "named.db")
	execRaw(t, named, "PRAGMA application_id = 252006674; PRAGMA user_version = 1; CREATE TABLE x (y)")
	text := filepath.Join(dir, "notes.txt")
	short := filepath.Join(dir, "short")
	for path, content := range map[string]string{text: "Dear diary, this is no database at all.", short: "SQLite"} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{foreign, named, text, short} {
		before, modeBefore := read(t, path), modeOf(t, path)
		_, err := store.OpenSQLite(t.Context(), path)
		if !errors.Is(err, store.ErrNotDatabase) {
			t.Errorf("%s: error is %v, want %v", filepath.Base(path), err, store.ErrNotDatabase)
		}
		if !bytes.Equal(read(t, path), before) || modeOf(t, path) != modeBefore {
			t.Errorf("%s was changed", filepath.Base(path))
		}
	}
	if _, err := store.OpenSQLite(t.Context(), dir); !errors.Is(err, store.ErrUnwritable) {
		t.Errorf("a directory: error is %v, want %v", err, store.ErrUnwritable)
	}
}

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

func TestRefusesNewer(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "godwit.db")
	s, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	execRaw(t, path, "PRAGMA user_version = 1000; CREATE TABLE of_the_future (x)")
	before := read(t, path)
	if _, err := store.OpenSQLite(t.Context(), path); !errors.Is(err, store.ErrNewer) {
		t.Errorf("error is %v, want %v", err, store.ErrNewer)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the database was changed")
	}
}

func TestCorrupt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "godwit.db")
	s, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		if err := insertKey(t.Context(), s, n); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b := read(t, path)
	for i := 4096; i < len(b); i++ { // all but the first page
		b[i] ^= 0x5a
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = store.OpenSQLite(t.Context(), path)
	if err == nil {
		err = s.View(t.Context(), func(r control.Reader) error { _, err := r.Keys(t.Context()); return err })
		if e := s.Close(); e != nil {
			t.Log(e)
		}
	}
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("error is %v, want %v", err, store.ErrCorrupt)
	}
	if err := os.WriteFile(path, b[:5000], 0o600); err != nil { // cut off
		t.Fatal(err)
	}
	s, err = store.OpenSQLite(t.Context(), path)
	if err == nil {
		err = s.View(t.Context(), func(r control.Reader) error { _, err := r.Keys(t.Context()); return err })
		s.Close()
	}
	if !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("cut off: error is %v, want %v", err, store.ErrCorrupt)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	s, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "godwit.db"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, err := range map[string]error{
		"view":    s.View(t.Context(), func(control.Reader) error { return nil }),
		"update":  insertKey(t.Context(), s, 1),
		"changes": func() error { _, err := s.Changes(t.Context()); return err }(),
	} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: error is %v, want %v", name, err, store.ErrClosed)
		}
	}
}

// Several processes that start on a new machine at once all make the schema, or wait for the one that does.
func TestOpenNewFileTogether(t *testing.T) {
	t.Parallel()
	for range 5 {
		path := filepath.Join(t.TempDir(), "godwit.db")
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				s, err := store.OpenSQLite(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if err := insertKey(t.Context(), s, n); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}

// What control forgets is gone from the files, not only from the tables; what it never needed was never there.
func TestForgottenIsGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "godwit.db")
	s := open(t, path)
	secrets, err := control.InitSecrets(dir, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	service, err := control.New(t.Context(), control.Config{Store: s, Secrets: secrets})
	if err != nil {
		t.Fatal(err)
	}
	const count = 150
	key, err := service.AddKey(t.Context(), control.AccessKey{Name: "anna", MaxDevices: count})
	if err != nil {
		t.Fatal(err)
	}
	onDisk := func() []byte {
		t.Helper()
		b := read(t, path)
		if wal, err := os.ReadFile(path + "-wal"); err == nil {
			b = append(b, wal...)
		}
		return b
	}
	var ids []device.ID
	for range count {
		k, err := device.New(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := service.Enrol(t.Context(), key.ID, k.Public())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := service.Renew(t.Context(), certificate); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, k.ID())
		if public := k.Public(); len(ids)%50 == 0 && (bytes.Contains(onDisk(), public) ||
			bytes.Contains(onDisk(), fmt.Appendf(nil, "%x", []byte(public)))) {
			t.Fatal("a device's public key is on disk")
		}
	}
	if !bytes.Contains(onDisk(), []byte(ids[7].String())) {
		t.Fatal("the ids are not where this test looks for them")
	}
	var carried []control.Traffic
	for _, id := range ids {
		carried = append(carried, control.Traffic{KeyID: key.ID, Device: id, Bytes: 1})
	}
	if err := service.AddTraffic(t.Context(), carried); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(w control.Writer) error {
		n, err := w.DeleteDevices(t.Context(), time.Now().AddDate(1, 0, 0))
		if n != count {
			t.Errorf("forgot %d devices, want %d", n, count)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, id := range ids {
		if bytes.Contains(onDisk(), []byte(id.String())) {
			left++
		}
	}
	if left > 0 {
		t.Errorf("%d of %d forgotten ids are still in the files", left, count)
	}
}

// Totals of a minute ago would tell, together with those of now, who was there meanwhile: only the last are on disk.
func TestNoPastTotals(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "godwit.db")
	s := open(t, path)
	if err := insertKey(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		err := s.Update(t.Context(), func(w control.Writer) error {
			return w.AddTraffic(t.Context(), 202703, []control.Traffic{{KeyID: [8]byte{0, 1}, Bytes: 1}})
		})
		if err != nil {
			t.Fatal(err)
		}
		if wal := read(t, path+"-wal"); len(wal) > 0 {
			t.Errorf("%d bytes of old states are in the write-ahead log", len(wal))
		}
	}
}
