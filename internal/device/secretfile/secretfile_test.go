package secretfile

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

const kind = "godwit test secret v1"

func secretOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func TestWriteRead(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	for _, want := range [][]byte{secretOf(1), secretOf(2)} { // the second replaces the first
		if err := Write(path, kind, want); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, kind, 32)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("read %x, want %x", got, want)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("directory holds %v, want the secret alone", entries)
	}
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode is %v, want 0600", info.Mode())
		}
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	good := string(format(kind, secretOf(7)))
	for name, text := range map[string]string{
		"empty":           "",
		"another kind":    strings.Replace(good, "v1", "v2", 1),
		"no newline":      strings.TrimSuffix(good, "\n"),
		"cut off":         good[:len(good)-5] + "\n",
		"longer secret":   string(format(kind, append(secretOf(7), 7))),
		"shorter secret":  string(format(kind, secretOf(7)[1:])),
		"a second line":   good + "x\n",
		"newline inside":  good[:len(good)-3] + "\n\n\n",
		"not base64":      strings.Replace(good, "B", "!", 1),
		"loose last bits": strings.TrimSuffix(good, "c=\n") + "d=\n",
		"endless":         good + strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if text == good {
				t.Fatal("the case does not change the file")
			}
			_, err := Read(path, kind, 32)
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("error is %v, want %v", err, ErrFormat)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("error %q does not name the file", err)
			}
		})
	}
}

func TestReadAbsent(t *testing.T) {
	t.Parallel()
	if _, err := Read(filepath.Join(t.TempDir(), "none"), kind, 32); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want fs.ErrNotExist", err)
	}
}

func TestReadDirectory(t *testing.T) {
	t.Parallel()
	if _, err := Read(t.TempDir(), kind, 32); err == nil {
		t.Error("a directory was read as a secret")
	}
}

func TestExposed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("permission bits say nothing on Windows")
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o777} {
		dir := t.TempDir()
		path := filepath.Join(dir, "secret")
		if err := Write(path, kind, secretOf(1)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path, kind, 32); !errors.Is(err, ErrExposed) {
			t.Errorf("mode %v: error is %v, want %v", mode, err, ErrExposed)
		}
		if err := os.Chmod(dir, mode|0o100); err != nil {
			t.Fatal(err)
		}
		if err := Dir(dir); !errors.Is(err, ErrExposed) {
			t.Errorf("directory mode %v: error is %v, want %v", mode|0o100, err, ErrExposed)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteTightens(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("old and open"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, kind, secretOf(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, kind, 32); err != nil {
		t.Error(err)
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := Dir(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o700 {
		t.Errorf("mode is %v, want 0700", info.Mode())
	}
	file := filepath.Join(path, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Dir(file); err == nil {
		t.Error("a file passed for a directory")
	}
}

func TestCreateOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	var won atomic.Int32
	var winner atomic.Uint32
	var wg sync.WaitGroup
	for i := range byte(32) {
		wg.Go(func() {
			switch err := Create(path, kind, secretOf(i)); {
			case err == nil:
				won.Add(1)
				winner.Store(uint32(i))
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("error is %v, want fs.ErrExist", err)
			}
			// Winner or not, whoever comes back sees a whole file.
			if _, err := Read(path, kind, 32); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d creators succeeded, want 1", won.Load())
	}
	got, err := Read(path, kind, 32)
	if err != nil {
		t.Fatal(err)
	}
	if want := secretOf(byte(winner.Load())); !bytes.Equal(got, want) {
		t.Errorf("file holds %x, want the winner's %x", got, want)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("directory holds %v, want the secret alone", entries)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(format(kind, secretOf(7)))
	f.Add([]byte(kind + " \n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		secret, err := parse(text, kind, 32)
		if err != nil {
			return
		}
		if again := format(kind, secret); !bytes.Equal(again, text) {
			t.Errorf("%q was read, but is written as %q", text, again)
		}
	})
}
