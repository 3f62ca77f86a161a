package scenario

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

// Who asks for the banned site is stopped by the boxes that are there for it, whatever it is asked for by; the allowed site
// opens in every way.
func TestFirewalls(t *testing.T) {
	netnstest.Need(t)
	for name, want := range map[string][]string{ // by box
		"vpn-ban-2018": {"gfw/dns-injection", "gfw/tls-name"},
		"gfw-2023":     {"gfw/dns-injection", "gfw/tls-name"},
		"gfw-2025":     {"gfw/dns-injection", "gfw/tls-name"},
		"henan":        {"gfw/dns-injection", "gfw/tls-name", "henan/tls-name"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := profile.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			c, err := newCountry(t.Context(), p, 1, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := c.close(); err != nil {
					t.Error(err)
				}
			}()
			client := c.host("client")
			for _, resolver := range []netip.Addr{resolverAddr, dnsAddr} {
				got, err := c.lookup(t.Context(), client, resolver, banned)
				if err != nil || slices.Contains(names[banned], got) != (resolver == dnsAddr) {
					t.Errorf("%v says %v, %v", resolver, got, err)
				}
				if got, err = c.lookup(t.Context(), client, resolver, allowed); err != nil || got != allowedAddr {
					t.Errorf("%v says of the allowed site %v, %v", resolver, got, err)
				}
			}
			open := func(scheme, name string) traffic.Result {
				return traffic.Fetch{URL: scheme + "://" + name + "/", Dial: client.DialContext, Addr: names[name][0], Timeout: 5 * time.Second}.Do(t.Context())
			}
			if r := open("https", banned); r.OK() {
				t.Errorf("the banned site opened: %+v", r)
			}
			// In one segment: what Go and browsers send today takes two, which Henan's firewall does not put together.
			conn, err := client.DialContext(t.Context(), "tcp", netip.AddrPortFrom(bannedAddr, 443).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if err := tls.Client(conn, &tls.Config{ServerName: banned, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}).Handshake(); err == nil {
				t.Error("the banned site answered a small hello")
			}
			for _, scheme := range []string{"http", "https"} {
				if r := open(scheme, allowed); !r.OK() {
					t.Errorf("the allowed site, over %s: %+v", scheme, r)
				}
			}
			var fired []string
			for _, e := range c.firewall.Events() {
				if !e.Cleared {
					fired = append(fired, e.Box+"/"+e.Rule)
				}
			}
			slices.Sort(fired)
			if fired = slices.Compact(fired); !slices.Equal(fired, want) {
				t.Errorf("fired %v, not %v", fired, want)
			}
		})
	}
}
