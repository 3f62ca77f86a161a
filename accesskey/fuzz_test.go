package accesskey

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		golden, goldenSmall, lower(golden), goldenBody, "> " + wrap(golden, 60, "\n> "),
		strings.ReplaceAll(golden, "&", "&amp;"),
		escape(golden, func(c byte) bool { return !isAlnum(c) }), strings.ReplaceAll(golden, "-", "—"),
		"godwit://", "godwit:", "ss://x",
		sealed(goldenBody + "&x=%2525"), sealed("godwit://AgAA@h/?"), "godwit%3A%2F%2F%",
		"godwit://@/?&c=", golden + golden, "&dir=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		check(t, s)
		// A fuzzer does not find sums: give it the right one.
		if body, _, ok := strings.Cut(s, "&c="); ok && strings.HasPrefix(body, scheme) {
			check(t, sealed(body)+"#label")
		}
	})
}

// check holds what is true of Parse for any text.
func check(t *testing.T, s string) {
	k, err := Parse(s)
	if err != nil {
		var pe *ParseError
		if !errors.As(err, &pe) || pe.Kind == nil || len(err.Error()) > 600 {
			t.Fatalf("error %T %v", err, err)
		}
		return
	}
	if err := k.Validate(); err != nil {
		t.Fatalf("an invalid key: %v", err)
	}
	text := k.Text()
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("%q is not read back: %v", text, err)
	}
	if !reflect.DeepEqual(again, k) {
		t.Fatalf("%q is read back as %q", text, again.Text())
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(golden), "gate.example", uint16(443), "quic", "www.example", "https://a.example/d", "Ann's phone")
	f.Add([]byte{1}, "2001:db8::1", uint16(8443), "", "", "https://[2001:db8::1]:8443/?x=1", "می\u200cخواهم")
	f.Fuzz(func(t *testing.T, b []byte, host string, port uint16, transport, name, location, label string) {
		var raw [8 + 16 + 32 + 32 + 32]byte
		copy(raw[:], b)
		k := Key{
			ID: ID(raw[:8]), Secret: NewSecret([16]byte(raw[8:24])), Pin: [32]byte(raw[24:56]), NextPin: [32]byte(raw[56:88]),
			Endpoints:    []Endpoint{{Host: host, Port: port}, {Transport: transport, Host: host, Port: port, Name: name}},
			DirectoryKey: raw[88:], Directory: []string{location}, Label: label,
		}
		text := k.Text()
		if (text == "") != (k.Validate() != nil) {
			t.Fatalf("Validate says %v and Text %q", k.Validate(), text)
		}
		if text == "" {
			return
		}
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%q is not read back: %v", text, err)
		}
		want, err := k.normal()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read back as %q", text, got.Text())
		}
	})
}
