package topology

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/linkmodel"
)

const example = `
seed 7
inside   client 192.0.2.10 2001:db8:1::10   # both families
inside   dns 192.0.2.53
firewall metro delay=2ms rate=200mbit
firewall border delay=80ms jitter=5ms backward.loss=0.5% forward.police_rate=140kbit forward.police_burst=16000
outside  gateway 198.51.100.10 2001:db8:2::10
outside  site 203.0.113.80
outside  cdn 203.0.113.81 203.0.113.82 3fff::82 3fff::83 3fff::84
`

var exampleIs = Description{
	Seed: 7,
	Inside: []Host{
		{"client", addrs("192.0.2.10", "2001:db8:1::10")},
		{"dns", addrs("192.0.2.53")},
	},
	Firewalls: []Firewall{
		{"metro", linkmodel.Direction{Delay: 2 * time.Millisecond, Rate: 200e6}, linkmodel.Direction{Delay: 2 * time.Millisecond, Rate: 200e6}},
		{
			"border",
			linkmodel.Direction{Delay: 80 * time.Millisecond, Jitter: 5 * time.Millisecond, PoliceRate: 140_000, PoliceBurst: 16_000},
			linkmodel.Direction{Delay: 80 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.005},
		},
	},
	Outside: []Host{
		{"gateway", addrs("198.51.100.10", "2001:db8:2::10")},
		{"site", addrs("203.0.113.80")},
		{"cdn", addrs("203.0.113.81", "203.0.113.82", "3fff::82", "3fff::83", "3fff::84")},
	},
}

func addrs(texts ...string) (as []netip.Addr) {
	for _, t := range texts {
		as = append(as, netip.MustParseAddr(t))
	}
	return as
}

func TestParse(t *testing.T) {
	d, err := Parse("x", example)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*d, exampleIs) {
		t.Errorf("parsed\n%+v, want\n%+v", *d, exampleIs)
	}
	again, err := Parse("x", d.String())
	if err != nil || !reflect.DeepEqual(again, d) {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestDraw(t *testing.T) {
	const want = `
client 192.0.2.10 2001:db8:1::10 ─┬─ isp ─[metro]─[border]─ exchange ─┬─ gateway 198.51.100.10 2001:db8:2::10
dns 192.0.2.53 ───────────────────┘                                   ├─ site 203.0.113.80
                                                                      └─ cdn 203.0.113.81 203.0.113.82 3fff::82 and 2 more

metro: delay=2ms rate=200mbit
border: delay=80ms jitter=5ms forward.police_rate=140kbit forward.police_burst=16000 backward.loss=0.005
`
	if got := "\n" + exampleIs.Draw(); got != want {
		t.Errorf("drew%s", got)
	}
	small := Description{Inside: exampleIs.Inside[:1], Outside: exampleIs.Outside[1:2]}
	if got, want := small.Draw(), "client 192.0.2.10 2001:db8:1::10 ─── isp ── exchange ─── site 203.0.113.80\n"; got != want {
		t.Errorf("drew\n%swant\n%s", got, want)
	}
}

func TestErrorsNameLineAndField(t *testing.T) {
	for text, want := range map[string]string{
		"inside client 10.0.0.1":                       "x.topo:1: host client: address 10.0.0.1: not reserved",
		"\n\ninside client 192.0.2.1 8.8.8.8":          "x.topo:3: host client: address 8.8.8.8: not reserved",
		"inside client 2001:db9::1":                    "x.topo:1: host client: address 2001:db9::1: not reserved",
		"inside client ::ffff:192.0.2.1":               "address ::ffff:192.0.2.1: not reserved",
		"inside client fe80::1%eth0":                   "address fe80::1%eth0: not reserved",
		"inside client 198.18.0.1":                     "not reserved",
		"inside client site.example":                   `address "site.example": not an`,
		"inside client":                                "x.topo:1: host client: address: none",
		"inside":                                       "x.topo:1: inside: nothing",
		"inside eth0/ 192.0.2.1":                       "name: use a letter",
		"inside isp 192.0.2.1":                         "host isp: name: taken",
		"inside a 192.0.2.1\nfirewall a":               "x.topo:2: firewall a: name: taken",
		"inside a 192.0.2.1\noutside b 192.0.2.1":      "x.topo:2: host b: address 192.0.2.1: a has it",
		"firewall f loss=2":                            "x.topo:1: firewall f: forward: loss 2 is not",
		"firewall f backward.loss=101%":                "x.topo:1: firewall f: backward: loss 1.01 is not",
		"firewall f delay=5":                           `x.topo:1: firewall f: field delay: "5" is not a time`,
		"firewall f rate=fast":                         `field rate: "fast" is not a rate`,
		"firewall f mtu=big":                           `field mtu: "big" is not a number`,
		"firewall f loss=some":                         `field loss: "some" is not a probability`,
		"firewall f delay=1ms forward.delay=1ms":       "field forward.delay: given already",
		"firewall f sideways.delay=1ms":                `field "sideways.delay": unknown`,
		"firewall f dev=eth0":                          `field "dev": unknown: use delay, jitter`,
		"firewall f delay":                             `"delay": not a field=value`,
		"seed x":                                       `seed "x": not one number`,
		"seed 1\nseed 2":                               "x.topo:2: seed 2: given already",
		"host a 192.0.2.1":                             `x.topo:1: kind "host": use inside`,
		strings.Repeat("firewall f\n", 1) + "firewall": "x.topo:2: firewall: nothing",
		manyFirewalls(9):                               "x.topo:9: firewall f8: more than 8",
	} {
		_, err := Parse("x.topo", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func manyFirewalls(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "firewall f%d\n", i)
	}
	return b.String()
}

func TestValidateInGo(t *testing.T) {
	if err := exampleIs.Validate(); err != nil {
		t.Error(err)
	}
	for want, d := range map[string]Description{
		"host a: address 10.0.0.1":    {Outside: []Host{{"a", addrs("10.0.0.1")}}},
		"firewall f: backward: mtu 1": {Firewalls: []Firewall{{Name: "f", Backward: linkmodel.Direction{MTU: 1}}}},
	} {
		if err := d.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestEveryFieldHasText holds that nothing of a link is left out of the text, and that names are those of its JSON.
func TestEveryFieldHasText(t *testing.T) {
	typ := reflect.TypeFor[linkmodel.Direction]()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if linkField(name) == nil {
			t.Errorf("%s has no field %q in the text", typ.Field(i).Name, name)
		}
	}
	if typ.NumField() != len(linkFields) {
		t.Errorf("%d fields in the text for %d of the link", len(linkFields), typ.NumField())
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("firewall f loss=1% loss=2%")
	f.Add("inside a 192.0.2.1 2001:db8::1%x")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Parse("x", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "x:") {
				t.Errorf("no file and line: %v", err)
			}
			return
		}
		if err := d.Validate(); err != nil {
			t.Errorf("parsed what is not valid: %v", err)
		}
		again, err := Parse("x", d.String())
		if err != nil || !reflect.DeepEqual(again, d) {
			t.Errorf("%v: not the same again:\n%s", err, d)
		}
		d.Draw()
	})
}
