package rawio

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWritev(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	fd := int(w.Fd())
	if err := Writev(fd, []byte("head "), []byte("body")); err != nil {
		t.Error(err)
	}
	b := make([]byte, 20)
	if n, err := r.Read(b); !bytes.Equal(b[:n], []byte("head body")) {
		t.Errorf("%q came, %v", b[:n], err)
	}
	r.Close()
	if err := Writev(fd, nil, []byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("writing to nobody gave %v", err)
	}
}
