package flow

import (
	"errors"
	"strings"
	"testing"
)

func TestNewTarget(t *testing.T) {
	for host, want := range map[string]string{
		"Site.Example":                   "site.example",
		"site.example.":                  "site.example",
		"192.0.2.1":                      "192.0.2.1",
		"192.0.2.1.":                     "192.0.2.1",
		"::ffff:192.0.2.1":               "192.0.2.1",
		"[2001:db8::1]":                  "2001:db8::1",
		"0":                              "0",
		"site.example..":                 "",
		"0..":                            "",
		".site.example":                  "",
		"site..example":                  "",
		"":                               "",
		".":                              "",
		"[]":                             "",
		"fe80::1%eth0":                   "",
		"a b":                            "",
		"user@site.example":              "",
		"site.example:80":                "",
		"[[2001:db8::1]]":                "",
		"site\x00.example":               "",
		strings.Repeat("a.", 126) + "aa": "",
	} {
		got, err := NewTarget(host, 443)
		if want == "" {
			if e := (*Error)(nil); !errors.As(err, &e) || e.Code != CodeBadTarget {
				t.Errorf("%q: %v, %v; wants an error", host, got, err)
			}
			continue
		}
		if err != nil || got.Host != want {
			t.Errorf("%q: %q, %v; wants %q", host, got.Host, err, want)
		}
		if again, err := NewTarget(got.Host, got.Port); err != nil || again != got {
			t.Errorf("%q: %v is normalised again to %v, %v", host, got, again, err)
		}
	}
	if _, err := NewTarget("site.example", 0); err == nil {
		t.Error("port 0 is taken")
	}
}
