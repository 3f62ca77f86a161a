package scenario

import (
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/profile"
	"github.com/godwit-vpn/godwit/lab/traffic"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// A country without a peer: the allowed site can be opened, by name, in every way; the banned one cannot.
func TestCountry(t *testing.T) {
	netnstest.Need(t)
	p, err := profile.Load("vpn-ban-2018")
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
	for _, site := range []struct {
		name string
		open bool
	}{{allowed, true}, {home, true}, {banned, false}} {
		addr, err := c.lookup(t.Context(), client, dnsAddr, site.name)
		if err != nil || addr != names[site.name][0] {
			t.Errorf("%s: %v, %v", site.name, addr, err)
			continue
		}
		r := traffic.Fetch{URL: "https://" + site.name + "/", Dial: client.DialContext, Addr: addr, Timeout: 10 * time.Second}.Do(t.Context())
		if r.OK() != site.open {
			t.Errorf("%s: %+v; fired %v", site.name, r, c.firewall.Events())
		}
		t.Logf("%s: %+v", site.name, r)
	}
	fired, first := c.firedOn(clientAddr, names[banned][:1])
	if fired["tls-name"] == 0 || first == "" {
		t.Errorf("fired %v", fired)
	}
}
