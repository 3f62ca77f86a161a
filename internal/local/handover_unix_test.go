//go:build unix

package local

import (
	"errors"
	"os"
	"syscall"
	"testing"
)

// A process that has inherited the lock takes the other one's place without a moment in which nobody has it, and the one
// that has let go does not take it away again.
func TestHandOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, _ := take(t, dir)
	fd, err := syscall.Dup(int(old.Lock().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	next, err := Adopt(dir, "client", os.NewFile(uintptr(fd), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	next.Serve(Handler{Status: func() any { return "next" }, Stop: func() {}})
	text, err := find(t, dir).Status(t.Context())
	if err != nil || string(text) != `"next"` {
		t.Errorf("asked after it was adopted: %q, %v", text, err)
	}
	old.HandOver()
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	if _, err := find(t, dir).Status(t.Context()); err != nil {
		t.Errorf("after the old one has gone: %v", err)
	}
	if _, err := Take(dir, "client"); !errors.As(err, new(*HeldError)) {
		t.Errorf("it is free: %v", err)
	}
	if err := next.Close(); err != nil {
		t.Error(err)
	}
	take(t, dir)
}
