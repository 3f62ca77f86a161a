package cli

import (
	"strings"
	"testing"
	"time"
)

func TestParseExpiry(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 30, 15, 500, time.UTC)
	for _, tt := range []struct{ text, want string }{
		{"", ""}, {"never", ""},
		{"12h", "2026-11-24T00:30:15Z"},
		{"30d", "2026-12-23T12:30:15Z"},
		{"2w", "2026-12-07T12:30:15Z"},
		{"1y", "2027-11-23T12:30:15Z"},
		{"2026-11-23", "2026-11-23T23:59:59Z"}, // today, to its end
		{"2026-12-31", "2026-12-31T23:59:59Z"},
		{"2026-12-31T10:00:00+02:00", "2026-12-31T08:00:00Z"},
	} {
		got, err := parseExpiry(tt.text, now)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		} else if text := got.Format(time.RFC3339); tt.want == "" && !got.IsZero() || tt.want != "" && text != tt.want {
			t.Errorf("%q is %s, want %s", tt.text, text, tt.want)
		}
	}
	for _, bad := range []string{"0d", "30", "d", "-1d", "+1d", "1.5d", "30 d", "30m", "tomorrow", "2026-11-22",
		"2026-13-01",
		"999999999999999999999d", "4294967295y", "101y", "9999-12-31", "30d30d", "\x00d", "é"} {
		if got, err := parseExpiry(bad, now); err == nil || explain(err).code != exitUsage ||
			!strings.Contains(err.Error(), "--expires") {
			t.Errorf("%q: %v, %v, want a usage error that names --expires", bad, got, err)
		}
	}
}

func TestParseLimit(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"": 0, "none": 0, "500MB": 500e6, "100GB": 100e9, "100 GB": 100e9, "1TB": 1e12, "1.5tb": 1.5e12, "1KB": 1000,
		"0.1GB": 1e8, "2PB": 2e15, "1000PB": 1e18, "1KiB": 1 << 10, "500MiB": 500 << 20, "100GiB": 100 << 30, "1TiB": 1 << 40,
		"007GB": 7e9,
	} {
		if got, err := parseLimit(text); got != want || err != nil {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"0GB", "0.0000001KB", "100", "100B", "GB", "-1GB", "+1GB", "1,5GB", "1e3GB", ".5GB",
		"1.GB", "1 GB ", "1  GB", "1GBit", "1Gb/s", "1001PB", "1EB", "999999999999999999999999PB", "1GB1GB", "infGB",
		"NaNGB", strings.Repeat("9", 400) + "GB", "\x001GB", "１GB"} {
		if got, err := parseLimit(bad); err == nil || explain(err).code != exitUsage ||
			!strings.Contains(err.Error(), "--limit") {
			t.Errorf("%q: %d, %v, want a usage error that names --limit", bad, got, err)
		}
	}
}

func TestParseProxy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"127.0.0.1:1080": "127.0.0.1:1080", "localhost:9": "127.0.0.1:9", ":1080": "127.0.0.1:1080", "1081": "127.0.0.1:1081",
		"[::1]:1080": "[::1]:1080", "127.9.9.9:0": "127.9.9.9:0",
	} {
		if got, err := parseProxy(text); got != want || err != nil {
			t.Errorf("%q is %q, %v, want %q", text, got, err, want)
		}
	}
	for _, bad := range []string{"", "127.0.0.1", "0.0.0.0:1080", "192.0.2.1:1080", "[::]:1080", "example.org:1080",
		"127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1", "70000"} {
		if got, err := parseProxy(bad); err == nil || explain(err).code != exitUsage || !strings.Contains(err.Error(),
			"--proxy") {
			t.Errorf("%q: %q, %v, want a usage error that names --proxy", bad, got, err)
		}
	}
}

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"gw.example": "gw.example:443", "gw.example:8443": "gw.example:8443", "192.0.2.1": "192.0.2.1:443",
		"2001:db8::1": "[2001:db8::1]:443", "[2001:db8::1]": "[2001:db8::1]:443", "[2001:db8::1]:8443": "[2001:db8::1]:8443",
		"a:b:c": "a:b:c",
	} {
		if got := parseEndpoint(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

func TestCheckProfile(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"default": true, "home-2": true, "A.b_c": true, "7": true, strings.Repeat("x", 32): true,
		"": false, ".": false, "..": false, "../x": false, "a/b": false, `a\b`: false, "-x": false, ".x": false, "a b": false,
		"x.": false, "é": false, "a:b": false, strings.Repeat("x", 33): false,
	} {
		if err := checkProfile(name); (err == nil) != ok {
			t.Errorf("%q: %v, want ok %v", name, err, ok)
		}
	}
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/var/lib/godwit": "/var/lib/godwit", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$HOME": "'$HOME'",
		"a&b": "'a&b'",
	} {
		if got := shellQuote(text); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
}
