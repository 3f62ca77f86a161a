package rules

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files is a directory of lists.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return []byte(text), nil
}

const example = `
[[rule]]
name = "ads"
domains = ["ads.example"]
action = "block"

[[rule]]
domains = ["=only.example", "Bücher.example", "shop.example."]
ports = ["443", "8000-8010"]
action = "direct"

[[rule]]
users = ["0", "1000"]
cidrs = ["192.0.2.0/24"]
action = "block"

[[rule]]
cgroups = ["/user.slice/a.scope", "/"]
ports = ["9"]
action = "block"

[[rule]]
cgroups = ["/user.slice"]
ports = ["10"]
action = "block"

[[rule]]
name = "this country"
files = ["country.txt"]
action = "direct"
`

var lists = files{"country.txt": `# a country
198.51.100.0/24	# a network
198.51.0.0/16
203.0.113.7
2001:db8:1::/48

domestic.example
=exact.example
::ffff:203.0.113.8
`}

func TestMatch(t *testing.T) {
	s, err := Parse("rules.toml", []byte(example), lists.read)
	if err != nil {
		t.Fatal(err)
	}
	if s.Entries != 12 || len(s.Rules) != 6 || !s.Owners {
		t.Errorf("%d entries, %d rules", s.Entries, len(s.Rules))
	}
	user := func(f Flow, uid uint32) Flow {
		f.UID, f.KnowUID = uid, true
		return f
	}
	name := func(n string, port uint16) Flow {
		return user(Flow{Name: n, Port: port, Addr: netip.MustParseAddr("192.0.9.9")}, 7)
	}
	addr := func(a string) Flow { return user(Flow{Addr: netip.MustParseAddr(a), Port: 443}, 7) }
	for _, tt := range []struct {
		flow   Flow
		action Action
		rule   int
		why    string
	}{
		{name("ads.example", 80), Block, 1, `rule 1 ("ads") matches ads.example and what is below it (its own lists)`},
		{name("x.y.ads.example", 80), Block, 1, "ads.example and"},
		{name("xads.example", 80), Tunnel, 0, "no rule matches, so the default counts"},
		{name("example", 80), Tunnel, 0, ""},
		{name("only.example", 443), Direct, 2, "the name only.example alone (its own lists), at ports 443, 8000-8010"},
		{name("x.only.example", 443), Tunnel, 0, ""},
		{name("only.example", 80), Tunnel, 0, ""},
		{name("www.shop.example", 8010), Direct, 2, ""},
		{name("xn--bcher-kva.example", 8000), Direct, 2, ""},
		{name("a.domestic.example", 1), Direct, 6, `rule 6 ("this country") matches domestic.example and what is below it (line 7 of country.txt)`},
		{name("exact.example", 1), Direct, 6, "line 8 of country.txt"},
		{addr("192.0.2.1"), Tunnel, 0, ""},
		{user(addr("192.0.2.1"), 1000), Block, 3, "rule 3 matches 192.0.2.0/24 (its own lists), of users 0, 1000"},
		{user(addr("::ffff:192.0.2.1"), 0), Block, 3, ""},
		{addr("198.51.100.9"), Direct, 6, "198.51.100.0/24 (line 2 of country.txt)"},
		{addr("198.51.1.9"), Direct, 6, "198.51.0.0/16 (line 3 of country.txt)"},
		{addr("203.0.113.7"), Direct, 6, "203.0.113.7/32"}, {addr("203.0.113.8"), Direct, 6, ""}, {addr("203.0.113.9"), Tunnel, 0, ""},
		{addr("2001:db8:1:2::3"), Direct, 6, "2001:db8:1::/48 (line 5"}, {addr("2001:db8:2::"), Tunnel, 0, ""},
		{Flow{Name: "x", Port: 9, Cgroup: "/user.slice/a.scope/b"}, Block, 4, "rule 4 matches all destinations, at ports 9, in control groups /user.slice/a.scope, /"},
		{Flow{Name: "x", Port: 9, Cgroup: "/x"}, Block, 4, ""},
		{Flow{Name: "x", Port: 10, Cgroup: "/user.slice"}, Block, 5, ""}, {Flow{Name: "x", Port: 10, Cgroup: "/user.slice/x/y"}, Block, 5, ""},
		{Flow{Name: "x", Port: 10, Cgroup: "/user.slices"}, Tunnel, 0, ""}, {Flow{Name: "x", Port: 10, Cgroup: "/"}, Tunnel, 0, ""},
		{user(Flow{Name: "x", Port: 10}, 7), Tunnel, 0, "; rule 5 comes first and may match once"},
		// What is not known.
		{user(Flow{Name: "unknown.example"}, 1000), Tunnel, 0, "default counts; rule 3 comes first and may match once"},
		{Flow{Name: "domestic.example"}, Direct, 6, "; rule 3 comes first"},
		{user(Flow{Name: "domestic.example"}, 7), Direct, 6, "country.txt)"},
		{Flow{Addr: netip.MustParseAddr("192.0.2.1")}, Tunnel, 0, "; rule 3 comes first"},
	} {
		d := s.Match(tt.flow)
		rule := 0
		if d.Rule != nil {
			rule = d.Rule.Number
		}
		if d.Action != tt.action || rule != tt.rule || !strings.Contains(d.Why(), tt.why) {
			t.Errorf("%+v: %v by rule %d: %s; want %v, rule %d, %q", tt.flow, d.Action, rule, d.Why(), tt.action, tt.rule, tt.why)
		}
	}
	if d := new(Set).Match(Flow{Name: "example.com"}); d.Action != Tunnel || d.Why() != "there are no rules" {
		t.Errorf("without rules: %v: %s", d.Action, d.Why())
	}
	if s, err := Parse("x", []byte(`default = "block"`), nil); err != nil || s.Match(Flow{Name: "x"}).Action != Block {
		t.Error(s, err)
	}
}

// Errors say where.
func TestErrors(t *testing.T) {
	list := func(line string) files { return files{"l.txt": "a.example\n\n" + line + "\n"} }
	const useList = "[[rule]]\nfiles = ['l.txt']\naction = 'block'\n"
	for _, tt := range []struct {
		text  string
		files files
		want  string
	}{
		{"x = 1", nil, `r.toml:1: there is no field "x"`},
		{"[[rule]]\naction = 'block'\ndomain = ['a.example']\n", nil, `r.toml:3: there is no field "rule.domain"`},
		{"[[rule]]\ndomains = ['a.example']\naction = 'drop'\n", nil, `r.toml:3: "drop" is not tunnel, direct or block`},
		{"default = 'deny'\n", nil, `r.toml:1: "deny" is not tunnel`},
		{"# x\n[[rule]]\ndomains = ['a.example']\n", nil, "r.toml:2: rule 1: action is missing"},
		{"[[rule]]\ndomains=['a']\naction='block'\n\n  [[ rule ]]\nname = 'n'\naction = 'block'\n", nil, `r.toml:5: rule 2 ("n"): it says nothing`},
		{"[[rule]]\naction = 'block'\ndomains = [\n 'a.example',\n '*.b.example',\n]\n", nil, `r.toml:5: "*.b.example" is not a domain: write b.example`},
		{"[[rule]]\naction = 'block'\ndomains = ['a b']\n", nil, `r.toml:3: "a b" is not a domain: ' ' cannot be in one`},
		{"[[rule]]\naction = 'block'\ncidrs = ['192.0.2.1/24']\n", nil, `r.toml:3: "192.0.2.1/24" has bits beyond its length: write 192.0.2.0/24`},
		{"[[rule]]\naction = 'block'\ncidrs = ['example.com']\n", nil, `r.toml:3: "example.com" is neither an address nor a prefix`},
		{"[[rule]]\naction = 'block'\nports = ['0']\n", nil, `r.toml:3: "0" is neither a port`},
		{"[[rule]]\naction = 'block'\nports = ['9-1']\n", nil, `r.toml:3: "9-1"`},
		{"[[rule]]\naction = 'block'\nusers = ['no-such-user-here']\n", nil, `r.toml:3: this machine has no user "no-such-user-here"`},
		{"[[rule]]\naction = 'block'\ncgroups = ['user.slice']\n", nil, `r.toml:3: "user.slice" is not a control group`},
		{"[[rule]]\naction = 'block'\ncgroups = ['/a/../b']\n", nil, `r.toml:3: "/a/../b" is not a control group`},
		{"[[rule]\n", nil, "r.toml:1: "},
		{useList, nil, "r.toml:1: rule 1: files: open l.txt: file does not exist"},
		{useList, list("b..example"), `l.txt:3: "b..example" is not a domain: each part`},
		{useList, list("1.2.3"), `l.txt:3: "1.2.3" is neither an address nor a prefix`},
		{useList, list("10.0.0.0/33 # x"), `l.txt:3: "10.0.0.0/33" is neither`},
		{useList, list("fe80::1%eth0"), `l.txt:3: "fe80::1%eth0" is neither`},
		{useList, list("="), `l.txt:3: "=" is not a domain`},
		{useList, list(strings.Repeat("a", 64)), `each part has 1 to 63 letters`},
	} {
		_, err := Parse("r.toml", []byte(tt.text), tt.files.read)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v; want %s", tt.text, err, tt.want)
		}
	}
}

func TestParseFlow(t *testing.T) {
	for in, want := range map[string]string{"example.com": "example.com", "Example.com.:443": "example.com:443", "192.0.2.1": "192.0.2.1",
		"192.0.2.1:53": "192.0.2.1:53", "2001:db8::1": "2001:db8::1", "[2001:db8::1]:443": "2001:db8::1:443", "[::1]": "::1",
		"bücher.example": "xn--bcher-kva.example", "::ffff:192.0.2.1": "192.0.2.1"} {
		f, err := ParseFlow(in)
		got := f.Name
		if f.Addr.IsValid() {
			got = f.Addr.String()
		}
		if f.Port != 0 {
			got += fmt.Sprint(":", f.Port)
		}
		if err != nil || got != want {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a b", "example.com:0", "example.com:x", "=example.com", "192.0.2.0/24", "fe80::1%eth0", "a..b"} {
		if f, err := ParseFlow(in); err == nil {
			t.Errorf("%q is %+v", in, f)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"rules.toml": example, "country.txt": lists["country.txt"]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Load(filepath.Join(dir, "rules.toml"))
	if err != nil || s.Match(Flow{Name: "domestic.example"}).Action != Direct {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := Load(filepath.Join(dir, "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Load(dir); err == nil {
		t.Error("a directory was read")
	}
}

// large is a list of so many domains and as many prefixes.
func large(n int) string {
	r := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "host%d.dom%d.example\n%v\n", i, r.IntN(n), netip.PrefixFrom(randomAddr(r), 16+r.IntN(17)).Masked())
	}
	return b.String()
}

func randomAddr(r *rand.Rand) netip.Addr {
	n := r.Uint32()
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestMatchAllocatesNothing(t *testing.T) {
	s, err := Parse("rules.toml", []byte(example), lists.read)
	if err != nil {
		t.Fatal(err)
	}
	f := Flow{Name: "a.b.c.domestic.example", Addr: netip.MustParseAddr("198.51.100.9"), Port: 443}
	if n := testing.AllocsPerRun(100, func() { s.Match(f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Whatever is in a file of rules or a list, it is read or refused with the place.
func FuzzParse(f *testing.F) {
	f.Add(example, lists["country.txt"])
	f.Add("default = 'block'\n[[rule]]\nfiles = ['x']\naction = 'tunnel'\n", "=a.example # x\n::/0\n")
	f.Fuzz(func(t *testing.T, text, list string) {
		s, err := Parse("rules.toml", []byte(text), func(string) ([]byte, error) { return []byte(list), nil })
		if err != nil {
			if e := new(Error); !errors.As(err, &e) {
				t.Fatal(err)
			}
			return
		}
		for _, flow := range []Flow{{Name: "a.example", Port: 443}, {Addr: netip.MustParseAddr("198.51.100.9"), KnowUID: true}} {
			if why := s.Match(flow).Why(); why == "" {
				t.Fatal("no reason")
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	text := large(100_000)
	s, err := Parse("rules.toml", []byte("[[rule]]\nfiles=['l']\naction='direct'\n"), files{"l": text}.read)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	var flows [1024]Flow
	for i := range flows {
		flows[i] = Flow{Name: fmt.Sprintf("www.host%d.dom%d.example", r.IntN(100_000), r.IntN(100_000)), Addr: randomAddr(r), Port: 443}
	}
	for name, change := range map[string]func(Flow) Flow{
		"name":    func(f Flow) Flow { f.Addr = netip.Addr{}; return f },
		"address": func(f Flow) Flow { f.Name = ""; return f },
		"both":    func(f Flow) Flow { return f },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Match(change(flows[i%len(flows)]))
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := large(100_000)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("r", []byte("[[rule]]\nfiles=['l']\naction='direct'\n"), files{"l": text}.read); err != nil {
			b.Fatal(err)
		}
	}
}
