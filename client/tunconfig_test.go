package client_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/godwit-vpn/godwit/client"
)

// What cannot be right of a TUN, and of names, is found before anything begins.
func TestCheckTUN(t *testing.T) {
	of := netip.MustParsePrefix
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := []netip.Prefix{of("198.19.0.0/16"), of("fd00:1::/64")}
	for _, c := range []struct {
		field string
		cfg   client.Config
	}{
		{"", client.Config{TUN: &client.TUN{File: f, Prefix4: of("10.0.0.0/24"), Prefix6: of("fd00::/64")}, NamesFirst: first}},
		{"", client.Config{SplitDNS: []string{"Corp.Example.=192.0.2.53", "x.corp.example=tls://dns.example"}}},
		{"TUN", client.Config{TUN: &client.TUN{Prefix4: of("10.0.0.0/24")}}},
		{"TUN", client.Config{TUN: &client.TUN{File: f}}},
		{"TUN", client.Config{TUN: &client.TUN{File: f, Packets: f, Prefix4: of("10.0.0.0/24")}}},
		{"", client.Config{TUN: &client.TUN{Packets: f, Prefix4: of("10.0.0.0/24")}}},
		{"TUN", client.Config{TUN: &client.TUN{File: f, Prefix4: of("fd00::/64")}}},
		{"TUN", client.Config{TUN: &client.TUN{File: f, Prefix6: of("10.0.0.0/24")}}},
		{"TUN", client.Config{TUN: &client.TUN{File: f, Prefix4: of("198.19.1.0/24")}, NamesFirst: first}},
		{"NamesFirst", client.Config{NamesFirst: []netip.Prefix{{}}}},
		{"NamesFirst", client.Config{NamesFirst: []netip.Prefix{first[0], of("198.18.0.0/16")}}},
		{"NamesFirst", client.Config{NamesFirst: []netip.Prefix{of("198.19.0.0/29")}}},
		{"SplitDNS", client.Config{SplitDNS: []string{"corp.example"}}},
		{"SplitDNS", client.Config{SplitDNS: []string{"=192.0.2.53"}}},
		{"SplitDNS", client.Config{SplitDNS: []string{"192.0.2.1=192.0.2.53"}}},
		{"SplitDNS", client.Config{SplitDNS: []string{"corp.example=ftp://x"}}},
		{"SplitDNS", client.Config{SplitDNS: []string{"corp.example=192.0.2.53", "CORP.example=192.0.2.54"}}},
	} {
		err := c.cfg.Check()
		var got *client.FieldError
		if (err == nil) != (c.field == "") || err != nil && (!errors.As(err, &got) || got.Field != c.field) {
			t.Errorf("%+v: %v, want one about %q", c.cfg, err, c.field)
		}
	}
}
