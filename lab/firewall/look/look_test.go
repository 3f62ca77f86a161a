package look

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
)

// talk has Go's TLS say to each other what it does, and returns both sides' bytes.
func talk(t testing.TB, name string, version uint16) (client, server []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "common.example"},
		DNSNames: []string{name, "www." + name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	fromA, fromB := &record{Conn: a}, &record{Conn: b}
	done := make(chan error, 1) // the server's only word
	go func() {
		done <- tls.Server(fromB, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
			MaxVersion: version, SessionTicketsDisabled: true}).Handshake()
	}()
	if err := tls.Client(fromA, &tls.Config{ServerName: name, InsecureSkipVerify: true, MaxVersion: version}).Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return fromA.sent, fromB.sent
}

type record struct {
	net.Conn
	sent []byte
}

func (r *record) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return r.Conn.Write(b)
}

// split cuts the first TLS record of b in two.
func split(b []byte, at int) []byte {
	size := int(b[3])<<8 | int(b[4])
	first, rest := b[5:5+at], b[5+at:5+size]
	return slices.Concat(b[:3], []byte{byte(at >> 8), byte(at)}, first, b[:3], []byte{byte((size - at) >> 8), byte(size - at)}, rest, b[5+size:])
}

func TestClientHello(t *testing.T) {
	t.Parallel()
	client, server := talk(t, "banned.example", tls.VersionTLS13)
	size := 5 + int(client[3])<<8 + int(client[4])
	hello := client[:size]
	two := split(hello, 100)
	for _, c := range []struct {
		name    string
		in      []byte
		records bool
		err     error
	}{
		{name: "whole", in: hello},
		{name: "and what follows", in: client},
		{name: "in two records", in: two, records: true},
		{name: "in two records, of which one is read", in: two, err: ErrNone},
		{name: "the first of two", in: two[:105], records: true, err: ErrMore},
		{name: "no name before the end", in: hello[:size-1], err: ErrMore},
		{name: "nothing", in: nil, err: ErrMore},
		{name: "one byte", in: hello[:1], err: ErrMore},
		{name: "a header", in: hello[:5], err: ErrMore},
		{name: "what a server says", in: server, err: ErrNone},
		{name: "HTTP", in: []byte("GET / HTTP/1.1\r\n\r\n"), err: ErrNone},
		{name: "SSH", in: []byte("SSH-2.0-x\r\n"), err: ErrNone},
		{name: "an empty record", in: []byte{22, 3, 1, 0, 0}, err: ErrNone},
		{name: "too long", in: []byte{22, 3, 1, 0, 4, 1, 1, 0, 0}, err: ErrNone},
		{name: "garbage that begins well", in: append([]byte{22, 3, 1, 0, 8, 1, 0, 0, 4}, "abcd"...), err: ErrNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := ClientHello(c.in, c.records)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && ServerName(h) != "banned.example" {
				t.Errorf("name %q", ServerName(h))
			}
		})
	}
}

func TestCertificateNames(t *testing.T) {
	t.Parallel()
	_, server := talk(t, "banned.example", tls.VersionTLS12)
	_, modern := talk(t, "banned.example", tls.VersionTLS13)
	for n := range server {
		names, err := CertificateNames(server[:n])
		if err == nil {
			if !slices.Equal(names, []string{"banned.example", "www.banned.example"}) {
				t.Errorf("names %q", names)
			}
			break
		}
		if !errors.Is(err, ErrMore) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if names, err := CertificateNames(server); err != nil || len(names) != 2 {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := CertificateNames(split(server, 30)); err != nil || len(names) != 2 {
		t.Errorf("%q, %v", names, err)
	}
	for name, b := range map[string][]byte{"TLS 1.3": modern, "HTTP": []byte("HTTP/1.1 200 OK\r\n\r\n"), "SSH": []byte("SSH-2.0-x"),
		"alert": {21, 3, 3, 0, 2, 2, 40}} {
		if names, err := CertificateNames(b); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %q, %v", name, names, err)
		}
	}
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want Request
		err  error
	}{
		{"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n", Request{"GET", "/x", "a.example", 0}, nil},
		{"GET /x HTTP/1.1\r\nhOST:a.example \r\nA: b\r\n\r\nbody", Request{"GET", "/x", "a.example", 0}, nil},
		{"POST http://a.example/ HTTP/1.0\r\n\r\n", Request{"POST", "http://a.example/", "", 0}, nil},
		{"GET / HTTP/1.1\r\nAccept: */*\r\nA: b\r\nHost: a.example\r\nLonger-Than-That: c\r\n\r\n", Request{"GET", "/", "a.example", 6}, nil},
		{"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", Request{"GET", "/", "a.example", 0}, nil},
		{"GET / HTTP/1.1\r\nHost: a.example\r\nAcc", Request{"GET", "/", "a.example", 0}, ErrMore},
		{"GET / HTTP/1.1\r\nHost: a.exam", Request{"GET", "/", "", 0}, ErrMore},
		{"GET /ban", Request{"GET", "/ban", "", 0}, ErrMore},
		{"GE", Request{}, ErrMore},
		{"", Request{}, ErrMore},
		{"GET /\r\n", Request{}, ErrNone}, // HTTP/0.9
		{"GET\r\n", Request{}, ErrNone},
		{"SSH-2.0-x\r\n", Request{}, ErrNone},
		{"\x16\x03\x01\x02\x00\x01", Request{}, ErrNone},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Request{}, ErrNone},
		{strings.Repeat("A", 17), Request{}, ErrNone},
	} {
		got, err := HTTP([]byte(c.in))
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%.40q: %+v, %v; want %+v, %v", c.in, got, err, c.want, c.err)
		}
	}
}

// vector reads a packet that an RFC has as an example.
func vector(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQUICInitial(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file    string
		version uint32
	}{
		{"testdata/rfc9001-a2.hex", QUICv1},
		{"testdata/rfc9369-a2.hex", QUICv2},
	} {
		t.Run(c.file, func(t *testing.T) {
			b := vector(t, c.file)
			i, err := QUICInitial(b)
			if err != nil {
				t.Fatal(err)
			}
			if i.Version != c.version || i.PacketNumber != 4 || hex.EncodeToString(i.DestID) != "8394c8f03e515708" || len(i.SourceID) != 0 ||
				!slices.Equal(i.Frames, []byte{6, 0}) || len(i.Crypto) != 1 || i.Crypto[0].Offset != 0 || len(i.Crypto[0].Data) != 241 {
				t.Errorf("%+v", i)
			}
			h, err := i.ClientHello()
			if err != nil || ServerName(h) != "example.com" {
				t.Errorf("%+v, %v", h, err)
			}
			// The same made here is the same packet, so the tests may make others.
			frames := append(hexBytes(t, "060040f1"), i.Crypto[0].Data...)
			frames = append(frames, make([]byte, 1162-len(frames))...)
			if !bytes.Equal(firewalltest.Initial(t, c.version, i.DestID, frames), b) {
				t.Error("firewalltest makes another")
			}
			// Whatever bit is changed, and wherever it ends, it is something else.
			for n := range b {
				changed := slices.Clone(b)
				changed[n] ^= 1
				if _, err := QUICInitial(changed); !errors.Is(err, ErrNone) {
					t.Errorf("byte %d changed: %v", n, err)
				}
				if n%7 == 0 || n == len(b)-1 {
					if _, err := QUICInitial(b[:n]); !errors.Is(err, ErrNone) {
						t.Errorf("%d bytes: %v", n, err)
					}
				}
			}
			if _, err := QUICInitial(append(slices.Clone(b), "another packet behind it"...)); err != nil {
				t.Error(err)
			}
		})
	}
	// RFC 9001, A.3: the server's.
	if _, err := QUICInitial(hexBytes(t, "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee")); !errors.Is(err, ErrNone) {
		t.Errorf("a server's: %v", err)
	}
}

func hexBytes(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestQUICFrames(t *testing.T) {
	t.Parallel()
	id := []byte("12345678")
	initial := func(frames ...[]byte) *Initial {
		t.Helper()
		i, err := QUICInitial(firewalltest.Initial(t, QUICv1, id, slices.Concat(frames...)))
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	i := initial(firewalltest.Crypto(4, []byte("hand")), []byte{1, 0, 0, 0}, firewalltest.Crypto(0, []byte("this")),
		[]byte{2, 9, 1, 1, 0, 2, 2}, []byte{3, 9, 1, 0, 0, 1, 1, 1}, firewalltest.Crypto(6, []byte("nds")), firewalltest.Crypto(20, []byte("late")))
	if !slices.Equal(i.Frames, []byte{6, 1, 0, 6, 2, 3, 6, 6}) {
		t.Errorf("frames %v", i.Frames)
	}
	if got := string(Join(i.Crypto)); got != "thishands" {
		t.Errorf("%q", got)
	}
	for name, frames := range map[string][]byte{
		"a frame that is not allowed":  {8, 0, 0, 0, 0},
		"a CRYPTO frame past the end":  {6, 0, 0x40, 9, 1},
		"ACK ranges past the end":      {2, 9, 1, 0x3f, 0, 2},
		"an offset that is too high":   append(bytes.Repeat([]byte{0}, 4), 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0),
		"a CRYPTO frame without bytes": {0, 0, 0, 0, 6},
	} {
		if i, err := QUICInitial(firewalltest.Initial(t, QUICv1, id, frames)); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %+v, %v", name, i, err)
		}
	}
	for _, c := range []struct {
		in  string
		err error
	}{{"", ErrMore}, {"\x01", ErrMore}, {"\x02", ErrNone}, {"\x01\x00\x00\x01", ErrMore}, {"\x01\x01\x00\x00", ErrNone}, {"\x01\x00\x00\x01x", ErrNone}} {
		if _, err := CryptoHello([]byte(c.in)); !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %v", c.in, err, c.err)
		}
	}
}

func FuzzClientHello(f *testing.F) {
	client, server := talk(f, "banned.example", tls.VersionTLS12)
	for _, b := range [][]byte{client, split(client, 50), client[:60], server} {
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, records bool) {
		before := bytes.Clone(b)
		h, err := ClientHello(b, records)
		switch {
		case err == nil:
			ServerName(h)
			if _, err := ClientHello(append(bytes.Clone(b), "more"...), records); err != nil {
				t.Errorf("with more behind it: %v", err)
			}
		case !errors.Is(err, ErrMore) && !errors.Is(err, ErrNone):
			t.Error(err)
		}
		if errors.Is(err, ErrNone) {
			// What it is not, it does not become.
			if _, err := ClientHello(append(bytes.Clone(b), b...), records); !errors.Is(err, ErrNone) {
				t.Errorf("it became %v", err)
			}
		}
		if !bytes.Equal(b, before) {
			t.Error("it was written to")
		}
	})
}

func FuzzCertificateNames(f *testing.F) {
	_, old := talk(f, "banned.example", tls.VersionTLS12)
	_, modern := talk(f, "banned.example", tls.VersionTLS13)
	for _, b := range [][]byte{old, split(old, 50), old[:200], modern} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := CertificateNames(b); err != nil && !errors.Is(err, ErrMore) && !errors.Is(err, ErrNone) {
			t.Error(err)
		}
	})
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte("GET /x HTTP/1.1\r\nAccept: */*\r\nHost: a.example\r\n\r\n"))
	f.Add([]byte("POST http://a.example/ HTTP/1.0\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := HTTP(b)
		if errors.Is(err, ErrNone) && r != (Request{}) {
			t.Errorf("%+v of nothing", r)
		}
		if r.Host != "" && !bytes.Contains(b, []byte(r.Host)) {
			t.Errorf("host %q", r.Host)
		}
	})
}

// FuzzQUICInitial reads packets as they are, and frames in a packet that is good.
func FuzzQUICInitial(f *testing.F) {
	f.Add(vector(f, "testdata/rfc9001-a2.hex"), []byte{})
	f.Add(vector(f, "testdata/rfc9369-a2.hex"), firewalltest.Crypto(0, []byte("\x01\x00\x00\x01x")))
	f.Add([]byte{0xc0, 0, 0, 0, 1, 0, 0, 0, 0x40}, slices.Concat(firewalltest.Crypto(3, []byte("abc")), []byte{0, 1, 2, 9, 1, 1, 0, 2, 2}, firewalltest.Crypto(0, []byte("xyz"))))
	f.Fuzz(func(t *testing.T, packet, frames []byte) {
		packets := [][]byte{packet}
		if len(frames) >= 4 && len(frames) < 1400 {
			packets = append(packets, firewalltest.Initial(t, QUICv1, []byte("12345678"), frames))
		}
		for _, b := range packets {
			i, err := QUICInitial(b)
			if err != nil {
				if !errors.Is(err, ErrNone) {
					t.Error(err)
				}
				continue
			}
			total := 0
			for _, p := range i.Crypto {
				total += len(p.Data)
			}
			joined := Join(i.Crypto)
			if len(joined) > total {
				t.Errorf("%d bytes joined from %d", len(joined), total)
			}
			if _, err := CryptoHello(joined); err != nil && !errors.Is(err, ErrMore) && !errors.Is(err, ErrNone) {
				t.Error(err)
			}
		}
	})
}
