package chrome

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/internal/transport"
)

// writes is a connection that keeps what is written, write by write, and has nothing to read.
type writes struct {
	net.Conn
	mu  sync.Mutex
	all [][]byte
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, bytes.Clone(b))
	return len(b), nil
}
func (w *writes) Read([]byte) (int, error) { return 0, net.ErrClosed }
func (w *writes) Close() error             { return nil }

// Every way of cutting leaves the same hello, in the promised number of writes and records, and the name is whole in none.
func TestFragmented(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		how             transport.Fragment
		writes, records int
	}{
		{transport.FragmentNone, 1, 1}, {transport.FragmentTCP, 2, 1}, {transport.FragmentRecord, 1, 2}, {transport.FragmentBoth, 2, 2},
	} {
		for _, name := range []string{"www.banned.example", "site.test", "t.co", "localhost", "x", "", "192.0.2.1"} {
			for range 20 {
				w := new(writes)
				u, err := Client(Fragmented(w, c.how), &utls.Config{ServerName: name, InsecureSkipVerify: true})
				if err != nil {
					t.Fatal(err)
				}
				u.Handshake() // which nobody answers
				if len(w.all) != c.writes {
					t.Fatalf("%v, %q: %d writes", c.how, name, len(w.all))
				}
				var content [][]byte
				for b := bytes.Join(w.all, nil); len(b) > 0; {
					n := recordHead + int(binary.BigEndian.Uint16(b[3:]))
					if b[0] != 22 || b[1] != 3 || b[2] != 1 || n > len(b) {
						t.Fatalf("%v, %q: a record begins with %x", c.how, name, b[:5])
					}
					content, b = append(content, b[recordHead:n]), b[n:]
				}
				if len(content) != c.records {
					t.Fatalf("%v, %q: %d records", c.how, name, len(content))
				}
				h, err := clienthello.ParseHello(record([]byte{22, 3, 1}, bytes.Join(content, nil)))
				if err != nil {
					t.Fatal(err)
				}
				sent, _ := h.Extension(clienthello.ServerName)
				named := name != "" && net.ParseIP(name) == nil
				if named != bytes.HasSuffix(sent, []byte(name)) && name != "" {
					t.Errorf("%v: the name %q is sent as %q", c.how, name, sent)
				}
				if !named || len(name) < 2 || c.how == transport.FragmentNone {
					continue
				}
				label := name
				if labels := strings.Split(name, "."); len(labels) > 1 {
					label = strings.Join(labels[len(labels)-2:], ".")
				}
				parts := w.all
				if c.how == transport.FragmentRecord {
					parts = content
				}
				if slices.ContainsFunc(parts, func(b []byte) bool { return bytes.Contains(b, []byte(label)) }) {
					t.Errorf("%v: %q is whole in one part", c.how, label)
				}
			}
		}
	}
}

// The length in a second record's head never spells the letter that was cut off: about one hello in 256 would.
func TestCutAtSpellsNothing(t *testing.T) {
	t.Parallel()
	w := new(writes)
	u, err := Client(w, &utls.Config{ServerName: "t.co", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	u.Handshake() // which nobody answers
	hello := w.all[0]
	for range 1 << 8 { // every low byte that the length can have
		hello = append(hello, 0)
		at := cutAt(hello)
		second := record(hello[:3], hello[at:])
		if whole := bytes.Contains(second, []byte("t.co")) || bytes.Contains(hello[:at], []byte("t.co")); whole {
			t.Errorf("cut at %d of %d: the name is whole", at, len(hello))
		}
	}
}

// What is no hello passes as it is.
func TestFragmentedOther(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"x", "\x17\x03\x03\x00\x01x", strings.Repeat("\x16", 20), "\x16\x03\x01\x00\x50" + strings.Repeat("\x02", 80)} {
		w := new(writes)
		c := Fragmented(w, transport.FragmentBoth)
		c.Write([]byte(first))
		c.Write([]byte("second"))
		if len(w.all) != 2 || string(w.all[0]) != first || string(w.all[1]) != "second" {
			t.Errorf("%q became %q", first, w.all)
		}
	}
}

// Go's server puts together what was cut.
func TestFragmentedHandshake(t *testing.T) {
	t.Parallel()
	for _, how := range []transport.Fragment{transport.FragmentTCP, transport.FragmentRecord, transport.FragmentBoth} {
		a, b := net.Pipe()
		cert := selfSigned(t)
		done := make(chan error, 1) // the server's handshake ends alone
		go func() {
			done <- tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, SessionTicketsDisabled: true}).Handshake()
		}()
		u, err := Client(Fragmented(a, how), &utls.Config{ServerName: "site.test", InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.Handshake(); err != nil {
			t.Errorf("%v: %v", how, err)
		}
		if err := <-done; err != nil {
			t.Errorf("%v: the server: %v", how, err)
		}
		a.Close()
		b.Close()
	}
}

// FuzzCutAt wants a place inside of whatever it is.
func FuzzCutAt(f *testing.F) {
	w := new(writes)
	if u, err := Client(w, &utls.Config{ServerName: "site.test", InsecureSkipVerify: true}); err == nil {
		u.Handshake()
		f.Add(w.all[0])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if at := cutAt(b); at != 0 && (at <= recordHead || at >= len(b)) {
			t.Errorf("cut at %d of %d", at, len(b))
		}
	})
}
