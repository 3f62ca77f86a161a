package profile

import (
	"errors"
	"strings"
	"testing"
)

func TestBuiltIn(t *testing.T) {
	t.Parallel()
	for _, name := range Names() {
		p, err := Load(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if p.Name != name {
			t.Errorf("%s calls itself %q", name, p.Name)
		}
		w, err := p.Build(1, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		for i, b := range w.Boxes {
			if b == nil || w.Box(p.Boxes[i].Name) != b {
				t.Errorf("%s: box %d is missing", name, i)
			}
		}
		if len(strings.Fields(p.Story)) < 30 {
			t.Errorf("%s: the story has %d words", name, len(strings.Fields(p.Story)))
		}
	}
	if _, err := Load("nowhere"); err == nil || !strings.Contains(err.Error(), "vpn-ban-2018") {
		t.Errorf("an unknown profile: %v", err)
	}
}

const good = `name = "x"
story = "s"
sources = ["y"]
[gateway]
addresses = 1
[groups.names]
banned = ["banned.example"]
[[box]]
name = "first"
place = "in-path"
[[box]]
name = "second"
place = "on-path"
drops = "first"
[[box.tls-name]]
names = ["@banned"]
[box.tls-name.then]
reset = ["gfw-1"]
[[box.tls-name]]
names = ["@banned"]
chance = 0.5
[box.tls-name.then]
block = "3-tuple"
for = "180s"
`

func TestMistakes(t *testing.T) {
	t.Parallel()
	if _, err := Parse("x", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		old, new string
		line     int
		field    string
		text     string
	}{
		{`chance = 0.5`, `chance = 5`, 21, "box[1].tls-name[1].chance", "between 0 and 1"},
		{`sources = ["y"]`, "sources = [\"y\"]\ndenies = [\"ssh\", \"voices\"]", 4, "denies[1]", "foreign"},
		{`for = "180s"`, `for = "180"`, 24, "", "missing unit"},
		{`for = "180s"`, `drop = true`, 24, "box[1].tls-name[1].then.drop", "cannot drop"},
		{`reset = ["gfw-1"]`, `reset = ["gfw-9"]`, 18, "", "gfw-2"},
		{`"3-tuple"`, `"5-tuple"`, 23, "", "connection"},
		{`for = "180s"`, "[[box.tls-nam]]", 24, "", "tls-name"},
		{`"on-path"`, `"beside"`, 13, "", "on-path"},
		{`drops = "first"`, `drops = "third"`, 14, "box[1].drops", "third"},
		{`banned = ["banned.example"]`, `banned = ["somebody.com"]`, 7, "groups.names.banned", "somebody"},
		{`names = ["@banned"]`, `names = ["@bannd"]`, 16, "box[1].tls-name[0].names", "groups.names"},
		{`addresses = 1`, `addresses = 0`, 5, "gateway.addresses", "one at least"},
		{`addresses = 1`, "addresses = 1\nrelays = [\"203.0.113.81/relay.example\", \"there\"]", 6, "gateway.relays[1]", "address[/name]"},
		{`addresses = 1`, "addresses = 1\nrelays = [\"192.168.0.1\"]", 6, "gateway.relays[0]", "documentation"},
		{`addresses = 1`, "addresses = 1\nrelays = [\"203.0.113.81/gateway.org\"]", 6, "gateway.relays[0]", "may belong"},
		{`name = "second"`, `name = "first"`, 12, "box[1].name", "two boxes"},
		{`drops = "first"`, `exempt = ["8.8.8.0/24"]`, 14, "box[1].exempt", "somebody"},
		{`drops = "first"`, `exempt = ["@nets"]`, 14, "box[1].exempt", "groups.nets"},
		{`addresses = 1`, "addresses = 1\n[client]\ntimestamps = true", 7, "client.timestamps", "no such field"},
		{`story = "s"`, "story = 's'\nseeds = -1", 3, "seeds", "no number"},
		{`story = "s"`, ``, 0, "story", "missing"},
		{`story = "s"`, "story = 's'\nleast-rate = -1", 3, "least-rate", "bits a second"},
		{"[groups.names]", "[probe]\nbox = \"second\"\n[groups.names]", 7, "probe.box", "in-path"},
		{"[groups.names]", "[probe]\nbox = \"first\"\n[groups.names]", 6, "probe.block", "endpoint"},
		{"[groups.names]", "[probe]\nbox = \"first\"\nblock = \"3-tuple\"\n[groups.names]", 8, "probe.block", "3-tuple"},
		{"[groups.names]", "[probe]\nbox = \"first\"\nblock = \"address\"\ndelay = \"2s..1s\"\n[groups.names]", 9, "", "more than"},
	} {
		_, err := Parse("x.toml", []byte(strings.Replace(good, c.old, c.new, 1)))
		var e *Error
		if !errors.As(err, &e) || e.Line != c.line || c.field != "" && e.Field != c.field || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v (%+v), want line %d, field %s, %q", c.new, err, e, c.line, c.field, c.text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, name := range Names() {
		b, err := data.ReadFile("data/" + name + ".toml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse("x", b)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%T", err)
		}
		if err == nil {
			if _, err := p.Build(1, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}
