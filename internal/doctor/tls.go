package doctor

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	utls "github.com/refraction-networking/utls"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// The keys.
const (
	gatewaysKey = "gateway"
	othersKey   = "other"
)

// shake does TLS's handshake with a kind of hello. Nothing is verified: what key was shown is an observation.
func (p *probes) shake(ctx context.Context, c net.Conn, kind, name string) (_ net.Conn, h2 bool, key string, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var chain []*x509.Certificate
	var secure net.Conn
	if kind == Browser {
		u, err := chrome.Client(c, &utls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return nil, false, "", err
		}
		if err := u.HandshakeContext(ctx); err != nil {
			return nil, false, "", err
		}
		s := u.ConnectionState()
		chain, h2, secure = s.PeerCertificates, s.NegotiatedProtocol == http2.NextProtoTLS, u
	} else {
		conf := &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{http2.NextProtoTLS, "http/1.1"}}
		if kind == Small {
			conf.CurvePreferences = []tls.CurveID{tls.X25519}
		}
		t := tls.Client(c, conf)
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, false, "", err
		}
		s := t.ConnectionState()
		chain, h2, secure = s.PeerCertificates, s.NegotiatedProtocol == http2.NextProtoTLS, t
	}
	key = othersKey
	if len(chain) > 0 && slices.Contains(p.cfg.Pins, sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)) {
		key = gatewaysKey
	}
	return secure, h2, key, nil
}

// alert reports whether TLS's other end said no in TLS's own words: it was reached, then, and understood.
func alert(err error) bool {
	var a tls.AlertError
	var remote *net.OpError
	return errors.As(err, &a) || errors.As(err, &remote) && remote.Op == "remote error"
}

// hello connects, shakes hands and asks for a page.
func (p *probes) hello(ctx context.Context, place int, port uint16, kind string, name int, local uint16) (h Hello, from uint16) {
	h = Hello{Place: place, Port: port, Hello: kind, Name: name, Stage: AtConnect}
	c, seen := p.connect(ctx, place, port, local, betweenTLS)
	h.At = time.Since(p.began).Seconds() - seen.MS/1000
	began := time.Now()
	if c == nil {
		h.Outcome, h.MS = seen.Outcome, seen.MS
		return h, 0
	}
	p.seen.Connects = append(p.seen.Connects, seen)
	from = c.port()
	defer func() { h.In, h.MS = int(c.in.Load()), ms(time.Since(began)) }()
	defer func() {
		c.linger(h.Outcome == OK)
		c.Close()
	}()
	stop := context.AfterFunc(ctx, func() { c.Conn.Close() })
	defer stop()
	h.Stage = AtHandshake
	secure, h2, key, err := p.shake(ctx, c, kind, p.says(name))
	if err != nil {
		if h.Outcome = outcome(err); alert(err) {
			h.Outcome, h.Stage = OK, AtEnd
		}
		return h, from
	}
	h.Key = key
	if key != gatewaysKey {
		h.Outcome, h.Stage = OK, AtEnd // somebody answers; nothing is asked of them
		return h, from
	}
	h.Stage = AtAnswer
	c.SetDeadline(time.Now().Add(answerTime))
	header, err := ask(secure, h2, p.authority(place, name, port, 443))
	if h.Outcome = outcome(err); err != nil {
		return h, from
	}
	h.Stage = AtEnd
	p.clock(place, header.Get("Date"), true)
	p.altSvc(place, header.Get("Alt-Svc"))
	return h, from
}

// ask asks for the first page and returns its header.
func ask(c net.Conn, h2 bool, authority string) (http.Header, error) {
	if !h2 {
		resp, err := askPlain(c, authority)
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	}
	for _, record := range chrome.Opening(authority, "") {
		if _, err := c.Write(record); err != nil {
			return nil, err
		}
	}
	f := http2.NewFramer(io.Discard, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.MaxHeaderListSize = 64 << 10
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return nil, err
		}
		if m, ok := frame.(*http2.MetaHeadersFrame); ok {
			header := make(http.Header)
			for _, field := range m.RegularFields() {
				header.Add(field.Name, field.Value)
			}
			return header, nil
		}
	}
}

// How much a bulk connection carries, and how long at most. It has to be more than the 25 packets and 16 to 34 KB after
// which connections were found frozen, and enough to tell a rate.
const (
	bulkBytes   = 256 << 10
	bulkTime    = 10 * time.Second
	bulkSilence = 5 * time.Second
	bulkAtOnce  = 24      // requests: with few, a long way looks slow
	bulkParts   = 12      // of the page that are asked for, as a browser does
	bulkPage    = 2 << 20 // of one part
)

var partOf = regexp.MustCompile(`(?:href|src)=["']?(/[^"'#> ]*)`)

// bulk reads the website again and again on one connection.
func (p *probes) bulk(ctx context.Context, place int, port uint16, name int) Bulk {
	b := Bulk{Place: place, Port: port, Name: name, Stage: AtConnect}
	c, seen := p.connect(ctx, place, port, 0, betweenTLS)
	if c == nil {
		b.Outcome = seen.Outcome
		return b
	}
	c.linger(true)
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Conn.Close() })
	defer stop()
	b.Stage = AtHandshake
	secure, h2, key, err := p.shake(ctx, c, Browser, p.says(name))
	if err != nil || !h2 || key != gatewaysKey {
		b.Outcome, b.Bytes = outcome(err), int(c.in.Load())
		if err == nil {
			b.Outcome = Untested
		}
		return b
	}
	b.Stage = AtAnswer
	//lint:ignore SA1019 net/http's own takes no connection whose TLS is not Go's
	cc, err := (&http2.Transport{DisableCompression: true}).NewClientConn(secure)
	if err != nil {
		b.Outcome = outcome(err)
		return b
	}
	base := "https://" + p.authority(place, name, port, 443)
	began := time.Now()
	type mark struct {
		at    time.Duration
		bytes int64
	}
	var marks []mark
	done := make(chan error, 1) // the reader's one word
	go func() { done <- p.pages(ctx, cc, base, c, began) }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for ended := false; !ended; {
		select {
		case err = <-done:
			ended = true
			b.Outcome = outcome(err)
		case <-tick.C:
			marks = append(marks, mark{time.Since(began), c.in.Load()})
			if quiet := time.Since(c.from) - time.Duration(c.last.Load()); quiet > bulkSilence {
				b.Outcome, ended = Silent, true
				c.Conn.Close()
				<-done
			}
		}
	}
	b.Bytes, b.Seconds = int(c.in.Load()), time.Since(began).Seconds()
	if b.Outcome == Silent {
		b.Seconds -= bulkSilence.Seconds()
	}
	// What the first third of a long one carried is what a policer lets pass at first.
	var from mark
	if b.Seconds > 3 {
		for _, m := range marks {
			if m.at.Seconds() <= b.Seconds/3 {
				from = m
			}
		}
	}
	if d := b.Seconds - from.at.Seconds(); d > 0 {
		b.Rate = float64(int64(b.Bytes)-from.bytes) * 8 / d
	}
	if b.Outcome == OK {
		b.Stage = AtEnd
	}
	return b
}

// pages asks for the first page, for what is on it, and then for the largest of that until enough has come.
func (p *probes) pages(ctx context.Context, cc http.RoundTripper, base string, c *counted, began time.Time) error {
	get := func(path string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, bulkTime+bulkSilence)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return nil, err
		}
		resp, err := cc.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(io.LimitReader(resp.Body, bulkPage))
	}
	page, err := get("/")
	if err != nil {
		return err
	}
	parts := []string{"/"}
	for _, m := range partOf.FindAllSubmatch(page, -1) {
		if part := string(m[1]); !strings.HasPrefix(part, "//") && !slices.Contains(parts, part) && len(parts) < bulkParts {
			parts = append(parts, part)
		}
	}
	// all asks for several at once.
	all := func(parts []string) (sizes []int, err error) {
		var wg sync.WaitGroup
		sizes, errs := make([]int, len(parts)), make([]error, len(parts))
		for i, part := range parts {
			wg.Go(func() {
				body, err := get(part)
				sizes[i], errs[i] = len(body), err
			})
		}
		wg.Wait()
		return sizes, errors.Join(errs...)
	}
	sizes, err := all(parts[1:])
	if err != nil {
		return err
	}
	largest, most := "/", len(page)
	for i, part := range parts[1:] {
		if sizes[i] > most {
			largest, most = part, sizes[i]
		}
	}
	again := slices.Repeat([]string{largest}, bulkAtOnce)
	for c.in.Load() < bulkBytes && time.Since(began) < bulkTime {
		if _, err := all(again); err != nil {
			return err
		}
	}
	return nil
}
