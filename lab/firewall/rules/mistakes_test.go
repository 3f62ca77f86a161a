package rules

import (
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// TestMistakes holds that a mistake in a parameter is named.
func TestMistakes(t *testing.T) {
	t.Parallel()
	block := Then{Block: scope(firewall.Connection)}
	names := Names{"x"}
	for _, c := range []struct {
		field string
		place firewall.Place
		set   Set
	}{
		{"model", 0, Set{TLSInTLS: []*TLSInTLS{{Model: "gfw"}}}},
		{"delta", 0, Set{TLSInTLS: []*TLSInTLS{{Model: "ndpi", Delta: 1}}}},
		{"then", 0, Set{TLSInTLS: []*TLSInTLS{{Model: "xue", Then: &Then{}}}}},
		{"handshakes", 0, Set{EncapsulatedTCP: []*EncapsulatedTCP{{Handshakes: -1}}}},
		{"exchanges", 0, Set{RTTDifference: []*RTTDifference{{Exchanges: -1}}}},
		{"test", firewall.OnPath, Set{FixedRate: []*FixedRate{{}}}},
		{"keeps", 0, Set{FixedRate: []*FixedRate{{Keeps: 2}}}},
		{"flows", 0, Set{Accumulation: []*Accumulation{{Then: block}}}},
		{"within", 0, Set{Accumulation: []*Accumulation{{Volume: 1, Within: 1, Then: block}}}},
		{"of", 0, Set{Subscriber: []*Subscriber{{Then: block}}}},
		{"names", 0, Set{Throttle: []*Throttle{{}}}},
		{"burst", 0, Set{Throttle: []*Throttle{{Names: names, Burst: 100}}}},
		{"more", 0, Set{Throttle: []*Throttle{{Names: names, More: [2]int{2, 1}}}}},
		{"rate", firewall.OnPath, Set{Throttle: []*Throttle{{Names: names}}}},
		{"loss", 0, Set{UDPPolice: []*UDPPolice{{}}}},
		{"loss", 0, Set{UDPPolice: []*UDPPolice{{Loss: 2}}}},
		{"no-udp", 0, Set{Freeze: []*Freeze{{NoTCP: true, NoUDP: true, Then: block}}}},
		{"then", 0, Set{Freeze: []*Freeze{{}}}},
		{"subnet", 0, Set{Burst: []*Burst{{Subnet: 33}}}},
		{"for", firewall.OnPath, Set{Burst: []*Burst{{}}}},
		{"allow", 0, Set{AllowProtocols: []*AllowProtocols{{Then: block}}}},
		{"allow", 0, Set{AllowProtocols: []*AllowProtocols{{Allow: []string{"gopher"}, Then: block}}}},
		{"nets", firewall.OnPath, Set{AllowAddresses: []*AllowAddresses{{}}}},
		{"name", 0, Set{DNSTunnel: []*DNSTunnel{{Then: block}}}},
		{"rare", 0, Set{DNSTunnel: []*DNSTunnel{{Rare: 2, Then: block}}}},
	} {
		_, err := c.set.Named(c.place, Groups{})
		if err == nil || !strings.Contains(err.Error(), `field "`+c.field+`"`) {
			t.Errorf("want field %q, got %v", c.field, err)
		}
	}
}
