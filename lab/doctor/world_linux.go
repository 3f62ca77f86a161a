package doctor

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/doctor"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/topology"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

const hosts = `
inside  client   192.0.2.10
inside  dns      192.0.2.53
%s gateway  198.51.100.10 203.0.113.10
outside resolver 203.0.113.53
`

// The names and addresses of all countries.
const (
	gatewayName = "gateway.example" // in the access key: what the client says in TLS
	otherName   = "other.example"   // given to the doctor
)

var (
	first     = netip.MustParseAddr("198.51.100.10")
	second    = netip.MustParseAddr("203.0.113.10")
	domestic  = netip.MustParseAddrPort("192.0.2.53:53")
	abroad    = netip.MustParseAddrPort("203.0.113.53:53")
	elsewhere = netip.MustParsePrefix("198.51.100.192/26") // what the gateway may be asked for
	names     = map[string][]netip.Addr{gatewayName: {first, second}, otherName: {netip.MustParseAddr("198.51.100.200")}}
)

// world is a country at work.
type world struct {
	net    *topology.Net
	client *netns.Host
	key    accesskey.Key
	cancel context.CancelFunc
	done   sync.WaitGroup
	ends   []func()
}

// profileText is a firewall of one box with these rules; box is more of the box's own fields.
func profileText(box, rules string) []byte {
	return fmt.Appendf(nil, `name = "doctor"
story = "Made up for an examination."
sources = ["none: parameters are drawn"]
[gateway]
addresses = 2
[[box]]
name = "box"
%s
%s
`, box, rules)
}

// newWorld builds one. The gateway is Godwit's program.
func newWorld(ctx context.Context, c *Case, at string, box, rules string, path linkmodel.Direction, seed uint64, godwit, dir string) (w *world, err error) {
	w = &world{}
	ctx, w.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	p, err := profile.Parse("doctor.toml", profileText(box, rules))
	if err != nil {
		return w, err
	}
	wall, err := p.Build(seed, nil)
	if err != nil {
		return w, err
	}
	d, err := topology.Parse("country", fmt.Sprintf(hosts, at))
	if err != nil {
		return w, err
	}
	d.Firewalls = []topology.Firewall{{Name: "box", Forward: path, Backward: path}}
	d.Seed = seed
	if w.net, err = d.Build(ctx, map[string]linkmodel.Box{"box": wall.Boxes[0]}); err != nil {
		return w, err
	}
	w.done.Go(func() { w.net.Run(ctx) })
	w.client = w.net.Hosts["client"]
	for host, addr := range map[string]netip.AddrPort{"dns": domestic, "resolver": abroad} {
		udp, err := w.net.Hosts[host].ListenUDP(addr)
		if err != nil {
			return w, err
		}
		tcp, err := w.net.Hosts[host].Listen(addr)
		if err != nil {
			return w, errors.Join(err, udp.Close())
		}
		r := &traffic.Resolver{Names: names}
		w.done.Go(func() { r.Serve(ctx, udp, tcp) })
	}
	if c.Portal {
		return w, w.portal(ctx)
	}
	entry, err := peer.Find("godwit")
	if err != nil {
		return w, err
	}
	gateway := entry.New(&peer.Tools{Godwit: godwit})
	site := &peer.Site{Client: w.client, Gateway: w.net.Hosts["gateway"], GatewayAddr: first, More: []netip.Addr{second}, Targets: elsewhere, Dir: dir}
	process, err := gateway.Gateway(ctx, site)
	if err != nil {
		return w, err
	}
	w.ends = append(w.ends, process.Stop)
	if w.key, err = accesskey.Parse(gateway.(interface{ Key() string }).Key()); err != nil {
		return w, err
	}
	// The doctor is to look at https and quic, by name; nothing here answers for the gateway's zone.
	w.key.Endpoints = slices.DeleteFunc(w.key.Endpoints, func(e accesskey.Endpoint) bool { return e.Transport != "https" && e.Transport != "quic" })
	for i := range w.key.Endpoints {
		w.key.Endpoints[i].Name = gatewayName
	}
	return w, nil
}

// portal answers in the gateway's stead, as a login page does.
func (w *world) portal(ctx context.Context) error {
	cert, err := certificate()
	if err != nil {
		return err
	}
	var id accesskey.ID
	rand.Read(id[:])
	w.key.Pin = [32]byte{1}
	for _, a := range []netip.Addr{first, second} {
		plain, err := w.net.Hosts["gateway"].Listen(netip.AddrPortFrom(a, 80))
		if err != nil {
			return err
		}
		secure, err := w.net.Hosts["gateway"].Listen(netip.AddrPortFrom(a, 443))
		if err != nil {
			return errors.Join(err, plain.Close())
		}
		s := &http.Server{Handler: http.RedirectHandler("http://login.example/hello", http.StatusFound), TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{cert}}, ErrorLog: log.New(io.Discard, "", 0)}
		w.done.Go(func() { s.Serve(plain) })
		w.done.Go(func() { s.ServeTLS(secure, "", "") })
		w.ends = append(w.ends, func() { s.Close() })
		w.key.Endpoints = append(w.key.Endpoints, accesskey.Endpoint{Host: a.String(), Name: gatewayName})
	}
	return nil
}

func (w *world) close() error {
	for _, end := range w.ends {
		end()
	}
	w.cancel()
	var err error
	if w.net != nil {
		err = w.net.Close()
	}
	w.done.Wait()
	return err
}

// dialFrom is a doctor's Dial on a host.
func dialFrom(h *netns.Host) doctor.Dial {
	return func(ctx context.Context, network string, local uint16, address string) (c net.Conn, err error) {
		d := net.Dialer{KeepAlive: -1}
		if local != 0 {
			d.LocalAddr = &net.TCPAddr{Port: int(local)}
		}
		err = h.DoApart(func() (err error) {
			c, err = d.DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
}

// certificate is one for any name, made once: RSA keys take long.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: gatewayName}, DNSNames: []string{gatewayName, otherName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})
