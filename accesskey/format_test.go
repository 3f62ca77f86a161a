package accesskey

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		key  Key
	}{{golden, fullKey()}, {goldenSmall, smallKey()}} {
		if got := c.key.Text(); got != c.text {
			t.Errorf("Text\n got %s\nwant %s", got, c.text)
		}
		if got := mustParse(t, c.text); !reflect.DeepEqual(got, c.key) {
			t.Errorf("Parse\n got %#v\nwant %#v", got, c.key)
		}
	}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	t.Parallel()
	k := smallKey()
	k.Version = 0
	k.Endpoints = []Endpoint{{Host: "Gate.Example"}, {Transport: "dns", Host: "::ffff:203.0.113.9", Port: 53}}
	got := mustParse(t, k.Text())
	want := []Endpoint{{Transport: "https", Host: "gate.example", Port: 443, Name: "gate.example"}, {Transport: "dns", Host: "203.0.113.9", Port: 53}}
	if got.Version != Format1 || !reflect.DeepEqual(got.Endpoints, want) {
		t.Errorf("got version %d, endpoints %v; want 1, %v", got.Version, got.Endpoints, want)
	}
	if a := (Endpoint{Host: "2001:db8::1"}).Addr(); a != "[2001:db8::1]:443" {
		t.Errorf("Addr = %q", a)
	}
	if k.Endpoints[0].Host != "Gate.Example" {
		t.Error("Text changed the key it printed")
	}
}

func TestLength(t *testing.T) {
	t.Parallel()
	k := smallKey()
	k.NextPin = [32]byte(ramp(32, 190, 5))
	k.Endpoints = []Endpoint{{Host: strings.Repeat("a", 32) + ".example"}}
	k.Label = strings.Repeat("x", 20)
	if n := len(k.Endpoints[0].Host); n != 40 {
		t.Fatalf("the host has %d characters", n)
	}
	if n := len(k.Text()); n == 0 || n >= 300 {
		t.Errorf("a key of one gateway has %d characters, want less than 300", n)
	}
	k.Label = strings.Repeat("é", 20)
	if mustParse(t, k.Text()).Label != k.Label {
		t.Error("a label of 20 letters with accents did not come back")
	}
}

func TestPins(t *testing.T) {
	t.Parallel()
	k := smallKey()
	if p := k.Pins(); len(p) != 1 || p[0] != k.Pin {
		t.Errorf("pins %x", p)
	}
	k = fullKey()
	if p := k.Pins(); len(p) != 2 || p[0] != k.Pin || p[1] != k.NextPin {
		t.Errorf("pins %x", p)
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for _, label := range []string{
		"", "a", "Ann's phone", "100% & more #1", "a.b_c~", "-", "...", "**",
		"сервер", "گوشی آنا", "می\u200cخواهم",
		"👩\u200d💻", "日本。", strings.Repeat("ж", MaxLabel), "x&c=abcd", "%41", "%2541", "&amp;",
		"godwit", "ｆｕｌｌ",
	} {
		k := smallKey()
		k.Label = label
		if got := mustParse(t, k.Text()).Label; got != label {
			t.Errorf("label %q came back as %q", label, got)
		}
		if got := mustParse(t, "Here: "+k.Text()+", see you. #2").Label; got != label {
			t.Errorf("label %q came back from a message as %q", label, got)
		}
	}
	for _, label := range []string{
		" a", "a\n", "a\x1b[2Jb", "a\u202eb", "\xff", strings.Repeat("ж", MaxLabel+1), "godwit://",
	} {
		k := smallKey()
		k.Label = label
		wantKind(t, k.Validate(), ErrInvalid, label)
		if k.Text() != "" {
			t.Errorf("label %q was printed", label)
		}
	}
	// What somebody put there by hand is made fit to be shown, and never keeps the key from being used.
	for raw, want := range map[string]string{
		"a%0Ab": "ab", "%1b%5b2J": "[2J", "%E2%80%AEtxt": "txt", "%ff": "", "%": "%", "a%2": "a%2",
		"%67odwit%3A//x": "", strings.Repeat("y", 100): strings.Repeat("y", MaxLabel), "Ann’s": "Ann", "Zoë": "Zoë",
	} {
		if got := mustParse(t, goldenSmall+"#"+raw).Label; got != want {
			t.Errorf("label %q was read as %q, want %q", raw, got, want)
		}
	}
}

func TestUnknownParametersAreKept(t *testing.T) {
	t.Parallel()
	body, _, _ := strings.Cut(goldenSmall, "&c=")
	text := sealed(body + "&zz=1,2&flag&new=https://x.example/a+b")
	k := mustParse(t, text)
	if k.Text() != text {
		t.Errorf("printed again as %s", k.Text())
	}
	damaged := strings.Replace(text, "zz=1,2", "zz=1,3", 1)
	_, err := Parse(damaged)
	wantKind(t, err, ErrMangled, damaged)
}

func TestParametersInAnyOrder(t *testing.T) {
	t.Parallel()
	body, _, _ := strings.Cut(goldenSmall, "&c=")
	head, query, _ := strings.Cut(body, "?")
	pin, dir, _ := strings.Cut(query, "&")
	if got := mustParse(t, sealed(head+"?"+dir+"&"+pin)).Text(); got != goldenSmall {
		t.Errorf("printed as %s", got)
	}
}

func TestFutureFormat(t *testing.T) {
	t.Parallel()
	for _, v := range []byte{2, 3, 200, 255} {
		// All of it is new but the envelope.
		text := sealed(scheme + b64.EncodeToString(append([]byte{v}, ramp(40, 1, 1)...)) + "@gate.example/?mesh=(1)!;2")
		_, err := Parse(text)
		wantKind(t, err, ErrTooNew, text)
		// And a newer key that was damaged is not called newer.
		_, err = Parse(strings.Replace(text, "mesh", "mash", 1))
		if errors.Is(err, ErrTooNew) || err == nil {
			t.Errorf("a damaged key of format %d: %v", v, err)
		}
	}
	text := sealed(strings.Replace(goldenBody, "://AR", "://AB", 1)) // version 0
	_, err := Parse(text)
	wantKind(t, err, ErrInvalid, text)
	if err := (&Key{Version: 2}).Validate(); !errors.Is(err, ErrInvalid) {
		t.Errorf("Validate of format 2: %v", err)
	}
}

func TestInvalidKeysAreNotPrinted(t *testing.T) {
	t.Parallel()
	many := func(n int) (list []Endpoint) {
		for i := range n {
			list = append(list, Endpoint{Host: fmt.Sprintf("h%d.example", i)})
		}
		return list
	}
	for name, c := range map[string]struct {
		part   string
		change func(*Key)
	}{
		"no id":               {"payload", func(k *Key) { k.ID = ID{} }},
		"no secret":           {"payload", func(k *Key) { k.Secret = Secret{} }},
		"zero secret":         {"payload", func(k *Key) { k.Secret = NewSecret([16]byte{}) }},
		"no pin":              {"pin", func(k *Key) { k.Pin = [32]byte{} }},
		"no directory key":    {"dir", func(k *Key) { k.DirectoryKey = nil }},
		"short directory key": {"dir", func(k *Key) { k.DirectoryKey = k.DirectoryKey[:31] }},
		"zero directory key":  {"dir", func(k *Key) { k.DirectoryKey = make([]byte, 32) }},
		"no endpoints":        {"host", func(k *Key) { k.Endpoints = nil }},
		"first is quic":       {"host", func(k *Key) { k.Endpoints[0].Transport = "quic" }},
		"no host":             {"host", func(k *Key) { k.Endpoints[0].Host = "" }},
		"host with port":      {"host", func(k *Key) { k.Endpoints[0].Host = "a.example:1" }},
		"host with space":     {"host", func(k *Key) { k.Endpoints[0].Host = "a example" }},
		"host in Cyrillic":    {"host", func(k *Key) { k.Endpoints[0].Host = "пример.example" }},
		"Kelvin sign in host": {"host", func(k *Key) { k.Endpoints[0].Host = "\u212a.example" }},
		"host in brackets":    {"host", func(k *Key) { k.Endpoints[0].Host = "[::1]" }},
		"address with zone":   {"host", func(k *Key) { k.Endpoints[0].Host = "fe80::1%eth0" }},
		"mistyped address":    {"host", func(k *Key) { k.Endpoints[0].Host = "203.0.113.777" }},
		"trailing dot":        {"host", func(k *Key) { k.Endpoints[0].Host = "a.example." }},
		"long label in host":  {"host", func(k *Key) { k.Endpoints[0].Host = strings.Repeat("a", 64) + ".example" }},
		"long host":           {"host", func(k *Key) { k.Endpoints[0].Host = strings.Repeat("a.", 127) + "a" }},
		"address as name":     {"host", func(k *Key) { k.Endpoints[0].Name = "203.0.113.8" }},
		"bad transport":       {"alt", func(k *Key) { k.Endpoints[1].Transport = "ht+tp" }},
		"bad second host":     {"alt", func(k *Key) { k.Endpoints[1].Host = "a/b" }},
		"too many endpoints":  {"alt", func(k *Key) { k.Endpoints = many(MaxEndpoints + 1) }},
		"http location":       {"at", func(k *Key) { k.Directory[1] = "http://a.example/" }},
		"no location host":    {"at", func(k *Key) { k.Directory[1] = "https:///d" }},
		"location with user":  {"at", func(k *Key) { k.Directory[1] = "https://u@a.example/" }},
		"location with &":     {"at", func(k *Key) { k.Directory[1] = "https://a.example/?a=1&b=2" }},
		"location with comma": {"at", func(k *Key) { k.Directory[1] = "https://a.example/1,2" }},
		"location with %":     {"at", func(k *Key) { k.Directory[1] = "https://a.example/%41" }},
		"location with #":     {"at", func(k *Key) { k.Directory[1] = "https://a.example/#x" }},
		"location with a key": {"at", func(k *Key) { k.Directory[1] = "https://a.example/godwit:/x" }},
		"empty location":      {"at", func(k *Key) { k.Directory[1] = "" }},
		"too many locations":  {"at", func(k *Key) { k.Directory = make([]string, MaxLocations+1) }},
		"too long":            {"", func(k *Key) { k.Directory[0] += strings.Repeat("x", MaxText) }},
	} {
		k := fullKey()
		c.change(&k)
		err := k.Validate()
		wantKind(t, err, ErrInvalid, name)
		var pe *ParseError
		if errors.As(err, &pe) && pe.Part != c.part {
			t.Errorf("%s: part %q, want %q (%v)", name, pe.Part, c.part, err)
		}
		if k.Text() != "" {
			t.Errorf("%s: printed", name)
		}
	}
	k := fullKey()
	k.Endpoints = many(MaxEndpoints)
	k.Directory = k.Directory[:1]
	for len(k.Directory) < MaxLocations {
		k.Directory = append(k.Directory, "https://mirror.example/d")
	}
	if got := mustParse(t, k.Text()); len(got.Endpoints) != MaxEndpoints || len(got.Directory) != MaxLocations {
		t.Errorf("a key at its limits came back with %d endpoints, %d locations", len(got.Endpoints), len(got.Directory))
	}
}

// A key with the right sum that breaks the rules was made by a program with a bug: say so and do not blame the copying.
func TestBadlyMadeKeys(t *testing.T) {
	t.Parallel()
	body, _, _ := strings.Cut(goldenSmall, "&c=")
	swap := func(old, new string) string { return strings.Replace(body, old, new, 1) }
	for _, c := range []struct{ part, body string }{
		{"pin", swap("pin=", "pim=")},
		{"dir", swap("&dir=", "&dip=")},
		{"pin", swap("GzdQ&", "GzdR&")}, // bits after the last byte
		{"pin", swap("GzdQ&", "Gzd&")},
		{"pin", body + "&pin=x"},
		{"next", body + "&next="},
		{"dir", body + "&dir="},
		{"sni", body + "&sni="},
		{"host", body + "&sni=203.0.113.1"},
		{"alt", body + "&alt="},
		{"alt", body + "&alt=a.example,"},
		{"alt", body + "&alt=a.example:0"},
		{"alt", body + "&alt=a.example:65536"},
		{"alt", body + "&alt=a.example:"},
		{"alt", body + "&alt=+a.example"},
		{"alt", body + "&alt=[a.example]"},
		{"alt", body + "&alt=[::1"},
		{"alt", body + "&alt=[::1]x"},
		{"alt", body + "&alt=::1"},
		{"alt", body + "&alt=a.example/"},
		{"alt", body + "&alt=" + strings.Repeat("a.example,", MaxEndpoints) + "a.example"},
		{"at", body + "&at=http://a.example/"},
		{"at", body + "&at="},
		{"host", swap("203.0.113.7", "")},
		{"host", swap("203.0.113.7", "203.0.113.7:99999")},
		{"host", swap("203.0.113.7", "x@203.0.113.7")},
		{"payload", swap("0uLw@", "0uL@")},
		{"", body + "&x=(y)"},
		{"", body + "&x=" + strings.Repeat("y", MaxText)},
		{"c", swap("?pin", "?c=abcd&pin")},
	} {
		text := sealed(c.body)
		_, err := Parse(text)
		wantKind(t, err, ErrInvalid, text)
		var pe *ParseError
		if errors.As(err, &pe) && pe.Part != c.part {
			t.Errorf("%q: part %q, want %q (%v)", c.body, pe.Part, c.part, err)
		}
	}
}

func TestIDs(t *testing.T) {
	t.Parallel()
	id := fullKey().ID
	if id.String() != "1011121314151617" {
		t.Errorf("String = %q", id)
	}
	for _, s := range []string{id.String(), "1011121314151617"} {
		if got, err := ParseID(s); err != nil || got != id {
			t.Errorf("ParseID(%q) = %v, %v", s, got, err)
		}
	}
	if got, err := ParseID("ABCDEF0000000001"); err != nil || got.String() != "abcdef0000000001" {
		t.Errorf("capitals: %v, %v", got, err)
	}
	for _, s := range []string{"", "10111213141516", "10111213141516171", "101112131415161g", strings.Repeat("é", 8)} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("ParseID(%q) succeeded", s)
		}
	}
	var back ID
	text, _ := id.MarshalText()
	if err := back.UnmarshalText(text); err != nil || back != id {
		t.Errorf("UnmarshalText: %v, %v", back, err)
	}
	if err := back.UnmarshalText([]byte("zz")); err == nil || back != id {
		t.Errorf("UnmarshalText of nonsense: %v, %v", back, err)
	}
	if !utf8.ValidString(id.String()) {
		t.Error("not UTF-8")
	}
}
