package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-vpn/godwit/lab/peer"
)

const bufSize = 256 << 10

// Target serves the package's ports on addr, and the count of uploaded bytes on the unix socket control. It
// returns nil when ctx ends. ready is called once everything listens.
func Target(ctx context.Context, addr, control string, ready func()) error {
	t := &target{}
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	listen := func(network, a string) net.Listener {
		l, err := net.Listen(network, a)
		if err != nil {
			t.fail(fmt.Errorf("target: %w", err))
			return nil
		}
		listeners = append(listeners, l)
		return l
	}
	port := func(p int) string { return net.JoinHostPort(addr, strconv.Itoa(p)) }
	bulk, echo := listen("tcp", port(PortBulk)), listen("tcp", port(PortEcho))
	web, ctl := listen("tcp", port(PortHTTPS)), listen("unix", control)
	if t.err != nil {
		return t.err
	}
	at, err := net.ResolveUDPAddr("udp", port(PortUDP))
	if err != nil {
		return err
	}
	udp, err := net.ListenUDP("udp", at)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	defer udp.Close()
	certPEM, keyPEM, err := peer.SelfSigned("target.example")
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(serveBytes),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	var wg sync.WaitGroup
	wg.Go(func() { t.accept(bulk, t.bulk) })
	wg.Go(func() { t.accept(echo, echoBack) })
	wg.Go(func() { t.accept(ctl, t.control) })
	wg.Go(func() { echoDatagrams(udp) })
	wg.Go(func() { server.ServeTLS(web, "", "") })
	site := make(chan error, 1)
	wg.Go(func() { site <- serveSite(ctx, netip.MustParseAddr(addr)) })
	ready()
	select {
	case <-ctx.Done():
	case err := <-site:
		if err != nil {
			t.fail(fmt.Errorf("target: the page: %w", err))
		}
	}
	server.Close()
	udp.Close()
	for _, l := range listeners {
		l.Close()
	}
	wg.Wait()
	return t.err
}

type target struct {
	up  atomic.Int64 // bytes uploaded to the bulk port
	err error
}

func (t *target) fail(err error) { t.err = errors.Join(t.err, err) }

// accept serves each connection in its own goroutine, which ends with the connection or the process.
func (t *target) accept(l net.Listener, serve func(net.Conn)) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(5 * time.Millisecond) // out of descriptors: wait for some to be closed
			continue
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

func (t *target) bulk(c net.Conn) {
	var what [1]byte
	if _, err := io.ReadFull(c, what[:]); err != nil {
		return
	}
	buf := make([]byte, bufSize)
	for {
		if what[0] == 'd' {
			if _, err := c.Write(buf); err != nil {
				return
			}
			continue
		}
		n, err := c.Read(buf)
		t.up.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func echoBack(c net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return
		}
	}
}

// control answers every byte with the count so far, as a line.
func (t *target) control(c net.Conn) {
	var b [1]byte
	for {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "%d\n", t.up.Load()); err != nil {
			return
		}
	}
}

func serveBytes(w http.ResponseWriter, r *http.Request) {
	var n int
	if _, err := fmt.Sscanf(r.URL.Path, "/bytes/%d", &n); err != nil || n < 0 || n > 1<<30 {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(n))
	buf := make([]byte, 64<<10)
	for n > 0 {
		k, err := w.Write(buf[:min(n, len(buf))])
		if err != nil {
			return
		}
		n -= k
	}
}
