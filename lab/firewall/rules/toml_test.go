package rules

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// TestProfileText reads the rules of section A as profiles write them: with what was measured.
func TestProfileText(t *testing.T) {
	t.Parallel()
	const text = `
[[address-block]]
to = ["198.51.100.0/24", "2001:db8:1::/48"]
ports = [443]
protocol = "tcp"
way = "to-client"
after = "10m"

[[address-block]]
protocol = "udp"
except = ["@resolvers"]

[[dns-injection]]
names = ["*banned*"]
injectors = ["gfw-1", "gfw-2", "gfw-3"]
a = ["203.0.113.0/24"]
aaaa = ["2001:db8::/32"]
after = "1ms..20ms"
tcp = { reset = ["gfw-2"] }

[[dns-injection]]
names = ["@banned"]
injectors = ["iran"]
drop = true
tcp.drop = true
tcp.block = "connection"

[[http-name]]
names = ["@banned"]
words = ["forbidden"]
long-header = 64
chance = 0.75
then = { reset = ["gfw-1", "gfw-2", "gfw-3"], block = "3-tuple", for = "90s", again = true, chance = 0.6 }

[[http-name]]
names = ["@banned"]
opened = true
page = true
then = { drop = true, block = "connection" }

[[tls-name]] # Henan
names = ["@banned"]
stateless = true
no-options = true
outbound = true
then = { reset = ["henan"] }

[[tls-name]] # Russia, class I
names = ["@banned"]
outbound = true
opened = true
certificate = true
then = { block = "connection", way = "to-client", for = "75s", rewrite = true }

[[tls-name]] # class II
names = ["@banned"]
then = { block = "connection", pass = [5, 8], for = "420s" }

[[tls-name]] # class IV
names = ["@banned"]
then = { drop = true, block = "connection", for = "40s" }

[[tls-name]] # Iran
names = ["@banned"]
opened = true
then = { reset = ["iran"] }

[[tls-name]] # Iran, 2020
names = ["@banned"]
then = { block = "connection", way = "to-server", for = "180s", extend = true }

[[tls-name]] # MCI
names = ["@banned"]
then = { block = "connection", way = "to-client", data = true }

[[esni]]
least = 5
then = { block = "3-tuple", way = "to-server", wait = "1s", for = "120s..180s", fixed = true }

[[ech]]
names = ["ech.front.example"]
to = ["198.51.100.0/24"]
reassemble = true
then = { drop = true, block = "connection" }

[[quic-name]] # China
names = ["@banned"]
port-above = true
outbound = true
chance = 0.15
then = { block = "3-tuple", way = "to-server", wait = "60ms/80ms/110ms/190ms/7.5s", for = "180s" }

[[quic-name]] # Russia
names = ["@banned"]
versions = [1]
except-ports = [53, 123]
reassemble = true
then = { drop = true, block = "connection", for = "420s", extend = true }

[[quic-version]]
ports = [443]
versions = [1]
least = 1001
except = ["198.51.100.128/25"]
then = { drop = true, block = "connection" }
`
	groups := Groups{Nets: map[string][]netip.Prefix{"resolvers": {netip.MustParsePrefix("198.51.100.53/32")}}, Names: map[string][]string{"banned": {"banned.example"}}}
	var set Set
	if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&set); err != nil {
		t.Fatal(err)
	}
	all, err := set.Named(firewall.InPath, groups)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text, "[["); len(all) != n {
		t.Errorf("%d rules of %d", len(all), n)
	}
	if r := set.QUICName[0]; len(r.Names) != 1 || r.Then.Wait.middle[1] != 110*ms || r.Then.Block == nil || *r.Then.Block != firewall.Pair {
		t.Errorf("%+v", r)
	}
	if r := set.AddressBlock[1]; !r.Except.Has(netip.MustParseAddr("198.51.100.53")) || r.Protocol != firewall.UDP {
		t.Errorf("%+v", r)
	}
	if r := set.DNSInjection[1]; r.TCP == nil || !r.TCP.Drop || r.Injectors[0].name != "iran" {
		t.Errorf("%+v", r)
	}
}
