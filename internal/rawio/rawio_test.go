//go:build unix

package rawio

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadWrite(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 10)
	if n, err := read(fds[1], b); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("reading nothing gave %d, %v", n, err)
	}
	if n, err := write(fds[0], []byte("hello")); n != 5 || err != nil {
		t.Errorf("writing gave %d, %v", n, err)
	}
	if n, err := read(fds[1], b); n != 5 || string(b[:n]) != "hello" || err != nil {
		t.Errorf("reading gave %d, %v", n, err)
	}
	if n, err := write(fds[0], nil); n != 0 || err != nil {
		t.Errorf("writing nothing gave %d, %v", n, err)
	}
	unix.Close(fds[1])
	if n, err := write(fds[0], []byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("writing to nobody gave %d, %v", n, err)
	}
	if n, err := read(fds[0], b); n != 0 || err != nil {
		t.Errorf("reading from nobody gave %d, %v", n, err)
	}
}
