package chrome

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	utls "github.com/refraction-networking/utls"
	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/clienthello"
)

var update = flag.Bool("update", false, "write testdata/opening-*.txt instead of comparing with it")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hello returns the first record that a client writes.
func hello(t *testing.T, b *Browser, serverName string) *clienthello.Hello {
	t.Helper()
	client, server := net.Pipe()
	defer func() { _ = server.Close() }()
	u, err := b.Client(client, &utls.Config{ServerName: serverName, InsecureSkipVerify: true})
	if err != nil {
		t.Error(err)
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- u.Handshake() }()
	defer func() {
		_ = server.Close()
		if err := <-done; err == nil {
			t.Error("a handshake with nobody succeeded")
		}
	}()
	record := make([]byte, 5)
	if _, err := io.ReadFull(server, record); err != nil {
		t.Error(err)
		return nil
	}
	record = append(record, make([]byte, binary.BigEndian.Uint16(record[3:]))...)
	if _, err := io.ReadFull(server, record[5:]); err != nil {
		t.Error(err)
		return nil
	}
	h, err := clienthello.ParseHello(record)
	if err != nil {
		t.Errorf("%v: %x", err, record)
	}
	return h
}

// browsers are those that this program is built with.
var browsers = map[string]*Browser{"chrome": BuiltIn(FamilyChrome), "firefox": BuiltIn(FamilyFirefox)}

// TestHellos reads two hundred hellos of each browser, several at a time, with another parser.
func TestHellos(t *testing.T) {
	t.Parallel()
	for name, b := range browsers {
		t.Run(name, func(t *testing.T) { testHellos(t, b) })
	}
}

func testHellos(t *testing.T, b *Browser) {
	t.Parallel()
	const count = 200
	hellos := make([]*clienthello.Hello, count)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := worker; i < count; i += 4 {
				hellos[i] = hello(t, b, "site.test")
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	p := b.profile.TLS
	orders, random, payloads := map[string]int{}, map[string]int{}, map[int]int{}
	firsts, greased := map[uint16]int{}, map[string]map[uint16]bool{}
	aeads := map[uint16]int{}
	repeated, shares := 0, 0
	for i, h := range hellos {
		for _, want := range []struct {
			name  string
			got   []uint16
			codes Codes
		}{
			{"cipher suites", h.Ciphers, p.Ciphers},
			{"groups", h.List(clienthello.SupportedGroups), p.Groups},
			{"versions", h.List(clienthello.SupportedVersions), p.Versions},
			{"signature algorithms", h.List(clienthello.SignatureAlgorithms), p.SignatureAlgorithms},
			{"certificate compression", h.List(clienthello.CompressCertificate), p.CertificateCompression},
		} {
			if text, _ := want.codes.MarshalText(); clienthello.Codes(want.got) != string(text) {
				t.Errorf("%s: sent %s, want %s", want.name, clienthello.Codes(want.got), text)
			}
		}
		if got, want := fmt.Sprint(h.Fields()), fmt.Sprint(hellos[0].Fields()); got != want {
			t.Fatalf("two hellos differ:\n%s\n%s", got, want)
		}
		ech := h.ECH()
		if ech == nil {
			t.Fatal("no encrypted_client_hello, or not an outer one")
		}
		payloads[len(ech.Payload)]++
		if got, want := h.Length-len(ech.Payload), hellos[0].Length-len(hellos[0].ECH().Payload); got != want {
			t.Errorf("%d bytes without the payload, want %d", got, want)
		}
		order := h.Order()
		orders[clienthello.Codes(order)]++
		firsts[order[1]]++
		if i > 0 && slices.Equal(order, hellos[i-1].Order()) {
			repeated++
		}
		if ends := order[0] == clienthello.GREASE && order[len(order)-1] == clienthello.GREASE; ends != p.GREASEEnds {
			t.Errorf("GREASE is first and last, or not: %s", clienthello.Codes(order))
		}
		seen := map[uint16]bool{}
		for _, e := range h.Extensions {
			if seen[e.Type] {
				t.Errorf("extension %04x is there twice", e.Type)
			}
			seen[e.Type] = true
		}
		more := 0
		if p.GREASEEnds {
			more = 2
		}
		if len(seen) != len(p.Extensions)+more {
			t.Errorf("%d extensions, want %d and %d of GREASE", len(seen), len(p.Extensions), more)
		}
		for place, value := range h.Greased() {
			if greased[place] == nil {
				greased[place] = map[uint16]bool{}
			}
			greased[place][value] = true
		}
		random[string(h.Random)]++
		random[string(h.SessionID)]++
		random[string(ech.Enc)]++
		random[string(ech.Payload)]++
		for _, s := range h.KeyShares() {
			if len(s.Data) > 1 {
				random[string(s.Data)]++
				shares++
			}
		}
		aeads[ech.AEAD]++
	}
	if want := count*4 + shares; len(random) != want {
		t.Errorf("%d values that should never repeat, want %d", len(random), want)
	}
	if len(aeads) != len(p.ECHGREASE.AEADs) {
		t.Errorf("AEADs of encrypted_client_hello: %v, want %v", aeads, p.ECHGREASE.AEADs)
	}
	for _, size := range p.ECHGREASE.Payloads {
		if payloads[size] < count/len(p.ECHGREASE.Payloads)/3 {
			t.Errorf("payload of %d bytes %d times in %d hellos: %v", size, payloads[size], count, payloads)
		}
	}
	if len(payloads) != len(p.ECHGREASE.Payloads) {
		t.Errorf("payloads of %v, want %v", payloads, p.ECHGREASE.Payloads)
	}
	if !p.Shuffled {
		if len(orders) != 1 {
			t.Errorf("%d orders of extensions", len(orders))
		}
		return
	}
	if len(orders) < count-1 || repeated > 0 {
		t.Errorf("%d orders in %d hellos, %d times that of the hello before", len(orders), count, repeated)
	}
	if len(firsts) != len(p.Extensions) { // one that never comes first: 17·(16/17)^200, or one run in ten thousand
		t.Errorf("only %d of %d extensions are ever the first after GREASE", len(firsts), len(p.Extensions))
	}
	for _, place := range []string{"cipher", "group", "version", "signature algorithm", "key share", "first extension",
		"last extension"} {
		if len(greased[place]) < 12 { // of 16, in 200 draws
			t.Errorf("GREASE in %s has only %d values", place, len(greased[place]))
		}
	}
}

func TestServerName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"site.test": "site.test", "": "", "192.0.2.1": "", "2001:db8::1": ""} {
		h := hello(t, BuiltIn(FamilyChrome), name)
		if h == nil {
			continue
		}
		body, ok := h.Extension(clienthello.ServerName)
		if ok != (want != "") || !bytes.HasSuffix(body, []byte(want)) {
			t.Errorf("for the name %q: sent %v, %x", name, ok, body)
		}
		if others := len(BuiltIn(FamilyChrome).profile.TLS.Extensions) + 1; len(h.Extensions) < others {
			t.Errorf("for the name %q: %d extensions", name, len(h.Extensions))
		}
	}
}

// selfSigned is a certificate of nobody's.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"site.test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// handshake has ours meet Go's server.
func handshake(t *testing.T, b *Browser, serverConfig *tls.Config) (u *utls.UConn, server *tls.Conn, clientErr, serverErr error) {
	t.Helper()
	cert := selfSigned(t)
	der := cert.Certificate[0]
	serverConfig.Certificates = []tls.Certificate{cert}
	serverConfig.NextProtos = []string{"h2"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		server = tls.Server(c, serverConfig)
		err = server.Handshake()
		if err != nil {
			_ = c.Close()
		}
		done <- err
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	verified := false
	cfg := &utls.Config{ServerName: "site.test", InsecureSkipVerify: true, VerifyConnection: func(s utls.ConnectionState) error {
		verified = len(s.PeerCertificates) == 1 && bytes.Equal(s.PeerCertificates[0].Raw, der)
		return nil
	}}
	if u, err = b.Client(c, cfg); err != nil {
		t.Fatal(err)
	}
	clientErr = u.Handshake()
	if clientErr != nil {
		_ = c.Close()
	} else if !verified {
		t.Error("VerifyConnection was not called, or not with the server's certificate")
	}
	if cfg.MinVersion != 0 || cfg.DynamicRecordSizingDisabled {
		t.Error("the caller's config was changed")
	}
	serverErr = <-done
	return u, server, clientErr, serverErr
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		browser Family
		want    utls.CurveID
		groups  []tls.CurveID
	}{
		{FamilyChrome, utls.X25519MLKEM768, nil}, {FamilyChrome, utls.X25519, []tls.CurveID{tls.X25519}},
		{FamilyChrome, utls.CurveP256, []tls.CurveID{tls.CurveP256}},
		// The engine keeps one key of a curve: of Firefox's two it is the one that gateways never need.
		{FamilyFirefox, utls.X25519MLKEM768, nil}, {FamilyFirefox, utls.X25519, []tls.CurveID{tls.X25519}},
	} {
		want, groups := c.want, c.groups
		u, server, err, serverErr := handshake(t, BuiltIn(c.browser), &tls.Config{CurvePreferences: groups})
		if err != nil || serverErr != nil {
			t.Fatalf("%v: %v, %v", want, err, serverErr)
		}
		state, serverState := u.ConnectionState(), server.ConnectionState()
		if Group(u) != want || serverState.CurveID != tls.CurveID(want) {
			t.Errorf("the group is %v here, %v there, want %v", Group(u), serverState.CurveID, want)
		}
		if state.Version != utls.VersionTLS13 || state.NegotiatedProtocol != "h2" || serverState.ServerName != "site.test" {
			t.Errorf("version %04x, protocol %q, name %q", state.Version, state.NegotiatedProtocol, serverState.ServerName)
		}
		ours, err := state.ExportKeyingMaterial("EXPORTER-godwit-test", []byte("context"), 32)
		theirs, serverErr := serverState.ExportKeyingMaterial("EXPORTER-godwit-test", []byte("context"), 32)
		if err != nil || serverErr != nil || !bytes.Equal(ours, theirs) {
			t.Errorf("exported %x, %v here, %x, %v there", ours, err, theirs, serverErr)
		}
		_ = server.Close()
	}
}

func TestOldServer(t *testing.T) {
	t.Parallel()
	_, _, err, serverErr := handshake(t, BuiltIn(FamilyChrome), &tls.Config{MaxVersion: tls.VersionTLS12})
	var alert tls.AlertError
	if err == nil || serverErr == nil || errors.As(err, &alert) {
		t.Errorf("with a server of TLS 1.2: %v, %v, want our refusal", err, serverErr)
	}
}

// TestOpening compares the bytes with what testdata has, and reads them back.
func TestOpening(t *testing.T) {
	t.Parallel()
	for name, b := range browsers {
		t.Run(name, func(t *testing.T) { testOpening(t, b, "opening-"+name+".txt") })
	}
}

func testOpening(t *testing.T, b *Browser, file string) {
	t.Parallel()
	const cookie = "id=0123456789; seen=1"
	records := b.Opening("site.test", cookie)
	var text strings.Builder
	fmt.Fprintf(&text, "Opening(%q, %q). Written by: go test . -run TestOpening -update\n", "site.test", cookie)
	for i, record := range records {
		fmt.Fprintf(&text, "\nrecord %d: %d bytes\n%s%x\n", i+1, len(record), readBack(t, i, record), record)
	}
	file = filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("sent\n%s\nwant\n%s\nif that is the browser's, write it with -update", &text, want)
	}
	if without := b.Opening("site.test", ""); bytes.Contains([]byte(readBack(t, 1, without[1])), []byte("cookie")) {
		t.Error("an empty cookie was sent")
	}
	var ack bytes.Buffer
	if err := http2.NewFramer(&ack, nil).WriteSettingsAck(); err != nil || ack.Len() != SettingsAckLen {
		t.Errorf("SETTINGS ACK has %d bytes, %v", ack.Len(), err)
	}
}

// readBack describes the frames of a record, which must be whole.
func readBack(t *testing.T, i int, record []byte) string {
	t.Helper()
	var text strings.Builder
	if i == 0 {
		rest, ok := bytes.CutPrefix(record, []byte(http2.ClientPreface))
		if !ok {
			t.Errorf("no preface: %q", record)
		}
		record = rest
	}
	in := bytes.NewReader(record)
	framer := http2.NewFramer(nil, in)
	for in.Len() > 0 {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, f)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			for s := range f.NumSettings() {
				fmt.Fprintf(&text, "  %v\n", f.Setting(s))
			}
		case *http2.WindowUpdateFrame:
			fmt.Fprintf(&text, "  %d\n", f.Increment)
		case *http2.HeadersFrame:
			fmt.Fprintf(&text, "  depends on %d, exclusive %v, weight %d\n", f.Priority.StreamDep, f.Priority.Exclusive,
				int(f.Priority.Weight)+1)
			fields, err := hpack.NewDecoder(4096, nil).DecodeFull(f.HeaderBlockFragment())
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range fields {
				fmt.Fprintf(&text, "  %s: %s\n", field.Name, field.Value)
			}
		}
	}
	return text.String()
}

// The request without TLS is one that a server reads, with the browser's name and none of what is for TLS alone.
func TestPlainRequest(t *testing.T) {
	t.Parallel()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(PlainRequest("site.test:8080"))))
	if err != nil {
		t.Fatal(err)
	}
	if r.Host != "site.test:8080" || r.URL.Path != "/" || !strings.Contains(r.UserAgent(), " Chrome/") ||
		r.Header.Get("Accept-Language") == "" || strings.Contains(r.Header.Get("Accept-Encoding"), "br") || len(r.Header) != 6 {
		t.Errorf("%+v", r)
	}
}
