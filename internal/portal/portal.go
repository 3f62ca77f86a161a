// Package portal finds the login page that a network wants to be seen before it lets a machine out, as hotels' do, and which
// sites belong to it.
//
// Such networks answer for everybody, without TLS. So one page is asked for that needs none, in the words of
// NetworkManager, which most Linux desktops ask so whenever they come to a network:
//
//	its own answer          nobody wants a login
//	a redirect              to the login page
//	anything else           the login page itself, or one that leads on to it
package portal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/publicsuffix"
)

// What NetworkManager asks for, and is answered.
const (
	checkHost = "nmcheck.gnome.org"
	checkPath = "/check_network_status.txt"
	checkText = "NetworkManager is online"

	findTime = 10 * time.Second
	maxPage  = 64 << 10 // bytes of a page that are looked through for sites
	maxHosts = 64       // that one page may name
)

// Page is a network's login page.
type Page struct {
	URL   string
	hosts []string // that it is on, or names
}

// ErrNone is returned by Find where the network lets everybody out.
var ErrNone = errors.New("this network wants no login: it answers as the open internet does")

// Find asks the network for its login page. Control, if not nil, is net.Dialer's; names are looked up by
// net.DefaultResolver.
func Find(ctx context.Context, control func(network, address string, c syscall.RawConn) error) (Page, error) {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	d := net.Dialer{Control: control}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(checkHost, "80"))
	if err != nil {
		return Page{}, fmt.Errorf("this network does not answer: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// Not Go's own client, which would be the only one to say so.
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\nConnection: close\r\n\r\n", checkPath, checkHost); err != nil {
		return Page{}, fmt.Errorf("this network does not answer: %w", err)
	}
	r := bufio.NewReader(io.LimitReader(conn, 2*maxPage))
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return Page{}, fmt.Errorf("this network's answer is not HTTP: %w", err)
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxPage)) // what came of it will do
	if resp.StatusCode == http.StatusOK && bytes.HasPrefix(bytes.TrimSpace(body), []byte(checkText)) {
		return Page{}, ErrNone
	}
	return read("http://"+checkHost+checkPath, resp.Header.Get("Location"), body), nil
}

// addresses are URLs in a page: where it leads on to, by a script or a refresh, and what it is made of.
var addresses = regexp.MustCompile(`https?://[^\s"'<>\\]+`)

// read makes a Page of what was answered for one.
func read(asked, location string, body []byte) Page {
	p := Page{URL: asked}
	base, _ := url.Parse(asked)
	if u, err := base.Parse(location); err == nil && location != "" && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		p.URL = u.String()
	}
	for _, text := range append([]string{p.URL}, addresses.FindAllString(string(body), maxHosts)...) {
		if u, err := url.Parse(text); err == nil && u.Hostname() != "" {
			p.hosts = append(p.hosts, host(u.Hostname()))
		}
	}
	return p
}

func host(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Gate decides where the browser may go in which the login is done. Safe for concurrent use.
type Gate struct {
	mu      sync.Mutex
	page    Page
	all     bool
	refused []string
	used    time.Time // when it last let something pass
}

// Set has the gate let the browser go to a page, and anywhere with all.
func (g *Gate) Set(page Page, all bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.page, g.all, g.refused = page, all, nil
}

// Refused are the hosts that the browser wanted besides.
func (g *Gate) Refused() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.refused)
}

// Used is when something was last let pass; zero if never.
func (g *Gate) Used() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.used
}

const maxRefused = 16

// Pass reports whether the browser may go to a host: one of the page's sites, or an address of a local network. Names of others
// are not even looked up.
func (g *Gate) Pass(name string) bool {
	name = host(name)
	g.mu.Lock()
	defer g.mu.Unlock()
	at, _ := netip.ParseAddr(name)
	at = at.Unmap()
	if g.all || at.IsPrivate() || at.IsLinkLocalUnicast() || carrier.Contains(at) || slices.ContainsFunc(g.page.hosts, func(h string) bool {
		return sameSite(h, name)
	}) {
		g.used = time.Now()
		return true
	}
	if len(g.refused) < maxRefused && !slices.Contains(g.refused, name) {
		g.refused = append(g.refused, name)
	}
	return false
}

// carrier is what providers have behind their address translation (RFC 6598).
var carrier = netip.MustParsePrefix("100.64.0.0/10")

// sameSite reports whether two hosts have an owner in common.
func sameSite(a, b string) bool {
	if a == b {
		return true
	}
	site, err := publicsuffix.EffectiveTLDPlusOne(a)
	_, notName := netip.ParseAddr(a)
	return err == nil && notName != nil && (b == site || strings.HasSuffix(b, "."+site))
}
