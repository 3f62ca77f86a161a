package pageload

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	utls "github.com/refraction-networking/utls"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// browser is whose TLS and manners a page is loaded with.
type browser int

const (
	chromium browser = iota
	firefox
	curl // HTTP/1.1, one request at a time
)

// host is one server of a site.
type host struct {
	conf  *tls.Config
	old   bool          // TLS 1.2 at most
	think time.Duration // typical
	delay time.Duration // one way, from where the gateway is
}

// resource is one thing of a page.
type resource struct {
	host    int
	request int // bytes
	size    int // of the answer
	think   time.Duration
}

// page is what a visit loads: the first resource, then waves of others.
type page struct {
	waves [][]resource
}

// site is a site on some day.
type site struct {
	hosts  []*host
	number int
}

var hostKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

// chain makes certificates of about that many bytes each.
func chain(sizes ...int) (c tls.Certificate) {
	c.PrivateKey = hostKey()
	for _, n := range sizes {
		filler := make([]byte, max(n-300, 16))
		rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(filler)
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(n)), Subject: pkix.Name{CommonName: "site.example"},
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{"site.example"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Value: filler}}}
		der, err := x509.CreateCertificate(crand.Reader, template, template, &hostKey().PublicKey, hostKey())
		if err != nil {
			panic(err)
		}
		c.Certificate = append(c.Certificate, der)
	}
	return c
}

func lognormal(r *rand.Rand, median, sigma, most float64) int {
	return int(min(median*math.Exp(sigma*r.NormFloat64()), most))
}

// newSite makes site number n: its hosts, whose certificates and software do not change from day to day. A certificate of
// an authority has 1 to 2 KB with an RSA key and its signatures, and less with ECDSA; a fifth compress them, which halves
// what Chromium is sent.
func newSite(n int) *site {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	s := &site{number: n}
	for range 1 + min(int(r.ExpFloat64()*4), 11) {
		h := &host{think: time.Duration(lognormal(r, 15, 1, 200)) * time.Millisecond,
			delay: time.Duration(lognormal(r, 6, 1, 60)) * time.Millisecond}
		sizes := []int{700 + r.IntN(1200), 700 + r.IntN(900)}
		for range r.IntN(3) {
			sizes = append(sizes, 600+r.IntN(900))
		}
		if r.IntN(5) == 0 {
			sizes = []int{500 + r.IntN(500), 400 + r.IntN(400)}
		}
		h.conf = &tls.Config{Certificates: []tls.Certificate{chain(sizes...)}, DynamicRecordSizingDisabled: r.IntN(2) == 0}
		if h.old = r.IntN(7) == 0; h.old {
			h.conf.MaxVersion = tls.VersionTLS12
		}
		if r.IntN(3) == 0 {
			h.conf.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		}
		s.hosts = append(s.hosts, h)
	}
	return s
}

// visit makes the page that is loaded on some day: contents change from day to day and from visit to visit.
func (s *site) visit(r *rand.Rand, day int) page {
	d := rand.New(rand.NewPCG(uint64(s.number), 2+uint64(day)))
	cookies := 0
	if r.IntN(3) == 0 {
		cookies = r.IntN(1500)
	}
	think := func(h *host) time.Duration { return time.Duration(float64(h.think) * (0.5 + r.ExpFloat64())) }
	var p page
	first := resource{request: 380 + r.IntN(150) + cookies, size: 200 + lognormal(d, 25e3, 1, 300e3), think: think(s.hosts[0])}
	p.waves = append(p.waves, []resource{first})
	for range 1 + d.IntN(3) {
		var wave []resource
		for i, h := range s.hosts {
			if d.IntN(3) == 0 {
				continue
			}
			for range 1 + int(d.ExpFloat64()*5) {
				wave = append(wave, resource{host: i, request: 40 + r.IntN(120) + r.IntN(2)*cookies/4,
					size: 100 + lognormal(d, 9e3, 1.4, 500e3), think: think(h)})
			}
		}
		p.waves = append(p.waves, wave)
	}
	if r.IntN(3) == 0 { // what it tells in the end
		p.waves = append(p.waves, []resource{{host: r.IntN(len(s.hosts)), request: 500 + lognormal(r, 900, 1, 8000), size: 60 + r.IntN(200),
			think: 10 * time.Millisecond}})
	}
	return p
}

// A request is its length, a number, the length and thinking time of its answer, and filler; an answer is like frames
// of HTTP/2: HEADERS and DATA of 16 KB at most.
const (
	requestHead = 10
	frameHead   = 9
	greeting    = 0 // the number of what follows the preface
)

// serve is a host's end of a connection.
func (h *host) serve(c net.Conn, r *rand.Rand, plain bool) {
	conn := tls.Server(c, h.conf)
	defer conn.Close()
	if conn.Handshake() != nil {
		return
	}
	var mu sync.Mutex
	frame := func(id uint16, n int, last bool) {
		b := make([]byte, frameHead+n)
		b[0], b[1], b[2] = byte(n>>16), byte(n>>8), byte(n)
		if last {
			b[3] = 1
		}
		binary.BigEndian.PutUint16(b[4:], id)
		mu.Lock()
		conn.Write(b)
		mu.Unlock()
	}
	if !plain {
		frame(greeting, 18+6*r.IntN(3)+13*r.IntN(2), true)
	}
	headers := 90 + r.IntN(400)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		var head [requestHead]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		n, id := int(binary.BigEndian.Uint16(head[:])), binary.BigEndian.Uint16(head[2:])
		if _, err := io.CopyN(io.Discard, conn, int64(n-requestHead)); err != nil {
			return
		}
		size := int(binary.BigEndian.Uint32(head[4:]))
		think := time.Duration(binary.BigEndian.Uint16(head[8:])) * time.Millisecond
		if size == 0 {
			if id == greeting && n > requestHead {
				frame(greeting, 0, false) // SETTINGS ACK
			}
			continue
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			time.Sleep(think)
			frame(id, headers, false)
			for ; size > 0; size -= 16384 {
				frame(id, min(size, 16384), size <= 16384)
			}
		}()
	}
}

// visitor is a browser's end of a connection.
type visitor struct {
	conn  net.Conn
	kind  browser
	mu    sync.Mutex
	next  uint16
	waits map[uint16]chan struct{}
	err   chan struct{}
}

// open makes TLS on c, as the browser does.
func (k browser) open(c net.Conn, h *host) (*visitor, error) {
	v := &visitor{kind: k, next: 1, waits: map[uint16]chan struct{}{}, err: make(chan struct{})}
	loose := &utls.Config{ServerName: "site.example", InsecureSkipVerify: true}
	var err error
	switch {
	case k == chromium && !h.old:
		var u *utls.UConn
		if u, err = chrome.Client(c, loose); err == nil {
			v.conn, err = u, u.Handshake()
		}
	case k == curl:
		t := tls.Client(c, &tls.Config{ServerName: "site.example", InsecureSkipVerify: true,
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}})
		v.conn, err = t, t.Handshake()
	default:
		u := utls.UClient(c, loose, utls.HelloFirefox_120)
		v.conn, err = u, u.Handshake()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	if k != curl {
		v.send(70, greeting, 0, 0)
	}
	go v.read()
	return v, nil
}

func (v *visitor) send(n int, id uint16, size int, think time.Duration) {
	b := make([]byte, max(n, requestHead))
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	binary.BigEndian.PutUint16(b[2:], id)
	binary.BigEndian.PutUint32(b[4:], uint32(size))
	binary.BigEndian.PutUint16(b[8:], uint16(think/time.Millisecond))
	v.conn.Write(b)
}

func (v *visitor) read() {
	defer close(v.err)
	for {
		var head [frameHead]byte
		if _, err := io.ReadFull(v.conn, head[:]); err != nil {
			return
		}
		n, id := int(head[0])<<16|int(head[1])<<8|int(head[2]), binary.BigEndian.Uint16(head[4:])
		if _, err := io.CopyN(io.Discard, v.conn, int64(n)); err != nil {
			return
		}
		if head[3] == 0 {
			continue
		}
		if id == greeting {
			v.mu.Lock()
			v.send(requestHead, greeting, 0, 0)
			v.mu.Unlock()
			continue
		}
		v.mu.Lock()
		ch := v.waits[id]
		delete(v.waits, id)
		v.mu.Unlock()
		if ch != nil {
			close(ch)
		}
	}
}

// fetch asks for some resources and waits for them; it reports whether all came.
func (v *visitor) fetch(all []resource) bool {
	var waits []chan struct{}
	wait := func(chs ...chan struct{}) bool {
		for _, ch := range chs {
			select {
			case <-ch:
			case <-v.err:
				return false
			}
		}
		return true
	}
	for _, res := range all {
		ch := make(chan struct{})
		v.mu.Lock()
		id := v.next
		v.next++
		v.waits[id] = ch
		v.send(res.request, id, res.size, res.think)
		v.mu.Unlock()
		if v.kind == curl {
			if !wait(ch) {
				return false
			}
			continue
		}
		waits = append(waits, ch)
	}
	return wait(waits...)
}

// dialer connects to a site's host.
type dialer func(h *host) (net.Conn, error)

// load loads a page with up to one connection for each host, and reports whether all came.
func (k browser) load(s *site, p page, r *rand.Rand, dial dialer) bool {
	var mu sync.Mutex
	conns := map[int]*visitor{}
	defer func() {
		for _, v := range conns {
			if v != nil {
				v.conn.Close()
				<-v.err
			}
		}
	}()
	fine := true
	for _, wave := range p.waves {
		by := map[int][]resource{}
		var order []int
		for _, res := range wave {
			if by[res.host] == nil {
				order = append(order, res.host)
			}
			by[res.host] = append(by[res.host], res)
		}
		var wg sync.WaitGroup
		for _, i := range order {
			wait := time.Duration(r.IntN(12)) * time.Millisecond // to look the name up, to read the page
			wg.Add(1)
			go func() {
				defer wg.Done()
				time.Sleep(wait)
				mu.Lock()
				v := conns[i]
				mu.Unlock()
				if v == nil {
					c, err := dial(s.hosts[i])
					if err == nil {
						v, err = k.open(c, s.hosts[i])
					}
					if err != nil {
						mu.Lock()
						fine = false
						mu.Unlock()
						return
					}
					mu.Lock()
					conns[i] = v
					mu.Unlock()
				}
				if !v.fetch(by[i]) {
					mu.Lock()
					fine = false
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		time.Sleep(time.Duration(2+r.IntN(40)) * time.Millisecond) // to draw it
	}
	return fine
}
