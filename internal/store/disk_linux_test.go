package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/store"
)

// childFill runs in a mount namespace of its own and fills a real, very small file system.
func childFill(args []string) error {
	dir := args[0]
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=512k"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 256<<10), 0o600); err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.OpenSQLite(ctx, filepath.Join(dir, "godwit.db"))
	if err != nil {
		return err
	}
	kept := 0
	for ; err == nil && kept < 60_000; kept++ {
		err = insertKey(ctx, s, kept)
	}
	kept-- // the last one failed
	if !errors.Is(err, store.ErrFull) {
		return fmt.Errorf("after %d keys the error is %v, want %v", kept, err, store.ErrFull)
	}
	if kept < 5 {
		return fmt.Errorf("after %d keys already: %w: the file system is too small for this test", kept, err)
	}
	count := func() (n int, err error) {
		err = s.View(ctx, func(r control.Reader) error {
			keys, err := r.Keys(ctx)
			n = len(keys)
			return err
		})
		return n, err
	}
	if n, err := count(); err != nil || n != kept {
		return fmt.Errorf("with the disk full %d keys can be read, %v; want %d", n, err, kept)
	}
	if err := os.Remove(filler); err != nil {
		return err
	}
	if err := insertKey(ctx, s, kept); err != nil {
		return fmt.Errorf("after there was space again: %w", err)
	}
	if n, err := count(); err != nil || n != kept+1 {
		return fmt.Errorf("%d keys, %v; want %d", n, err, kept+1)
	}
	return s.Close()
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	cmd := child(t, "fill", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine gives no user namespaces: %v", err)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestUnwritable looks through the eyes of another user: the tests may be root's, whom no mode stops.
func TestUnwritable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"closed": 0o700, "readable": 0o755} {
		if err := os.Mkdir(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "readable", "theirs.db")
	theirs, err := store.OpenSQLite(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		for _, name := range []string{"closed/new.db", "readable/new.db", "readable/theirs.db"} {
			s, err := store.OpenSQLite(t.Context(), filepath.Join(dir, name))
			if err == nil {
				s.Close()
			}
			if !errors.Is(err, store.ErrUnwritable) {
				t.Errorf("%s: error is %v, want %v", name, err, store.ErrUnwritable)
			}
		}
	})
}

// asNobody calls fn on a thread that has nobody's rights to files, and ends that thread afterwards.
func asNobody(t *testing.T, fn func()) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
		const nobody = 65534
		if err := unix.Setfsgid(nobody); err != nil {
			t.Error(err)
			return
		}
		if err := unix.Setfsuid(nobody); err != nil {
			t.Error(err)
			return
		}
		fn()
	}()
	<-done
}
