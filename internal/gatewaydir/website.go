package gatewaydir

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/flow"
)

// WebsiteSettings say what strangers see.
type WebsiteSettings struct {
	// Kind is "site", a small site that is made up and no other gateway has; "empty", a web server without pages;
	// "directory", files; or "proxy", a site that runs elsewhere. Empty means "site".
	Kind string `toml:"kind,omitempty"`
	// Directory is the path of the files of a "directory".
	Directory string `toml:"directory,omitempty"`
	// Upstream is where the site of a "proxy" is, "http://127.0.0.1:8080" or "https://site.example".
	Upstream string `toml:"upstream,omitempty"`
	// ForwardedFor tells the upstream the visitors' addresses; they are told to nobody unless this is set.
	ForwardedFor bool `toml:"forwarded_for,omitempty"`
	// Redirect are the addresses at which plain HTTP is sent on to the website, host:port, and where CAs may look; absent
	// means port 80 wherever the gateway listens on port 443, [] means none.
	Redirect *[]string `toml:"redirect,omitempty"`
}

// redirects are where to answer plain HTTP.
func (s Settings) redirects() (all []string) {
	if s.Website.Redirect != nil {
		return *s.Website.Redirect
	}
	for _, l := range s.Listen {
		if host, port, err := net.SplitHostPort(l); err == nil && port == "443" {
			all = append(all, net.JoinHostPort(host, "80"))
		}
	}
	return all
}

// validateWebsite checks what can be said without looking at the disk: a directory that went away stops the gateway
// from starting (Website), but not the operator from taking back a key.
func (s Settings) validateWebsite(fail func(field, format string, args ...any)) {
	w := s.Website
	for _, a := range s.redirects() {
		if _, port, err := net.SplitHostPort(a); err != nil || !isPort(port) {
			fail("website.redirect", "%q is not host:port", a)
		}
	}
	kind := decoy.Kind(w.Kind)
	switch kind {
	case "", decoy.Site, decoy.Empty, decoy.Directory, decoy.Proxy:
	default:
		fail("website.kind", "%q is none of site, empty, directory, proxy", w.Kind)
		return
	}
	switch {
	case kind != decoy.Directory && w.Directory != "":
		fail("website.directory", "is given, but website.kind is not \"directory\": set that, or remove this")
	case kind == decoy.Directory && w.Directory == "":
		fail("website.directory", "is empty: give the path of the website's files")
	case kind == decoy.Directory && !filepath.IsAbs(w.Directory):
		fail("website.directory", "%q is not an absolute path", w.Directory)
	}
	switch {
	case kind != decoy.Proxy && w.Upstream != "":
		fail("website.upstream", "is given, but website.kind is not \"proxy\": set that, or remove this")
	case kind != decoy.Proxy && w.ForwardedFor:
		fail("website.forwarded_for", "is given, but website.kind is not \"proxy\": set that, or remove this")
	case kind == decoy.Proxy && w.Upstream == "":
		fail("website.upstream", "is empty: give the address of the site, such as \"http://127.0.0.1:8080\"")
	case kind == decoy.Proxy:
		if u, problem := upstreamURL(w.Upstream); problem != "" {
			fail("website.upstream", "%s", problem)
		} else if s.ownAddress(u) {
			fail("website.upstream", "%q is this gateway itself: give the address of another web server", w.Upstream)
		}
	}
}

// upstreamURL parses an upstream, or says what is wrong with it. A password in it is not repeated.
func upstreamURL(s string) (u *url.URL, problem string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, "is not an address such as \"http://127.0.0.1:8080\""
	case u.User != nil:
		return nil, "has a user name in it: visitors would need no password"
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Sprintf("%q does not begin with http:// or https://", s)
	case u.Hostname() == "":
		return nil, fmt.Sprintf("%q has no host", s)
	case u.Port() != "" && !isPort(u.Port()) || strings.HasSuffix(u.Host, ":"):
		return nil, fmt.Sprintf("%q has a port that is none", s)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Sprintf("%q has more than a host and a path", s)
	}
	return u, ""
}

// ownAddress reports whether a URL leads to this gateway: to one of its endpoints, or to a port it listens on at an
// address that it listens on. Names other than the endpoints' are not looked up.
func (s Settings) ownAddress(u *url.URL) bool {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	for _, e := range s.Endpoints {
		t, err := flow.ParseTarget(e)
		if err == nil && fmt.Sprint(t.Port) == port && strings.TrimSuffix(strings.ToLower(t.Host), ".") == host {
			return true
		}
	}
	to, err := netip.ParseAddr(host)
	isAddr := err == nil
	if to = to.Unmap(); host == "localhost" || strings.HasSuffix(host, ".localhost") {
		to, isAddr = netip.AddrFrom4([4]byte{127, 0, 0, 1}), true
	}
	for _, l := range s.Listen {
		at, p, err := net.SplitHostPort(l)
		if err != nil || p != port || !isAddr {
			continue
		}
		on, err := netip.ParseAddr(at)
		switch {
		case at == "" || err == nil && on.IsUnspecified(): // all of the machine's
			if to.IsLoopback() || to.IsUnspecified() || slices.Contains(machineAddrs(), to) {
				return true
			}
		case at == "localhost" && to.IsLoopback(), on.Unmap() == to, to.IsUnspecified():
			return true
		}
	}
	return false
}

// machineAddrs are the addresses of this machine.
func machineAddrs() (all []netip.Addr) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p.Addr().Unmap())
		}
	}
	return all
}

// Website makes what strangers see. Call it once: a directory is held open from then on. The log that the Dir was opened
// with hears when a proxy's upstream does not answer.
func (d *Dir) Website() (http.Handler, error) { return d.website(nil) }

// website is Website whose own session cookie, if it has one, is made by random.
func (d *Dir) website(random func([]byte)) (http.Handler, error) {
	w := d.Settings.Website
	c := decoy.Config{Kind: decoy.Kind(w.Kind), Directory: w.Directory, ForwardedFor: w.ForwardedFor, Logger: d.log}
	fail := func(field string, err error) (http.Handler, error) {
		return nil, fmt.Errorf("%w: field %s: %w", ErrSettings, field, err)
	}
	switch c.Kind {
	case decoy.Directory:
		if err := d.outside(w.Directory); err != nil {
			return fail("website.directory", err)
		}
		h, err := decoy.New(c)
		if err != nil {
			return fail("website.directory", err)
		}
		return h, nil
	case decoy.Proxy:
		u, problem := upstreamURL(w.Upstream)
		if problem != "" {
			return nil, fmt.Errorf("%w: field website.upstream: %s", ErrSettings, problem)
		}
		c.Upstream = u
	case decoy.Site, "":
		var err error
		c.Seed = d.Secrets.WebsiteSeed()
		c.CookieName, c.CookieLen = decoy.CookieFor(d.TLS.Pin)
		c.Random = random
		if c.Base, err = d.born(); err != nil {
			return nil, err
		}
	}
	h, err := decoy.New(c)
	if err != nil {
		return fail("website.kind", err)
	}
	return h, nil
}

// born is when Init made the gateway: its website, by its dates, was there by then. The file of the network's id is
// written once and never again.
func (d *Dir) born() (time.Time, error) {
	info, err := os.Stat(filepath.Join(d.Path, "keys", "network"))
	if err != nil {
		return time.Time{}, fmt.Errorf("state directory %q: %w", d.Path, err)
	}
	return info.ModTime(), nil
}

// outside refuses a website that would show the gateway's own files.
func (d *Dir) outside(website string) error {
	website, err := filepath.EvalSymlinks(website)
	if err != nil {
		return err
	}
	state, err := filepath.Abs(d.Path)
	if err == nil {
		state, err = filepath.EvalSymlinks(state)
	}
	if err != nil {
		return err
	}
	for _, pair := range [][2]string{{website, state}, {state, website}} {
		if rel, err := filepath.Rel(pair[0], pair[1]); err == nil && filepath.IsLocal(rel) {
			return fmt.Errorf("%q and the gateway's state directory %q are one within the other: visitors could read its keys; "+
				"give the website a directory of its own", website, state)
		}
	}
	return nil
}
