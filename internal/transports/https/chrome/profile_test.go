package chrome

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	utls "github.com/refraction-networking/utls"
)

// TestParseProfile has a profile refused for one thing at a time, with the field's name in what is said.
func TestParseProfile(t *testing.T) {
	t.Parallel()
	tests := []struct{ old, new, want string }{
		{``, ``, ``},
		{`"browser": "`, `"browsr": "`, `unknown field "browsr"`},
		{`"browser": "Chromium`, `"browser": "", "version": "`, `unknown field "version"`},
		{`"measured": "2`, `"measured": "`, `measured`},
		{`"ciphers": "grease 1301`, `"ciphers": "grease 13 01`, `"13" is not four hexadecimal digits`},
		{`"ciphers": "grease 1301`, `"ciphers": "1301 1301`, `tls.ciphers`},
		{`"groups": "grease 11ec`, `"groups": "grease`, `tls.key_shares`},
		{`"key_shares": "grease 11ec`, `"key_shares": "grease`, `tls.key_shares`},
		{`"key_shares": "grease 11ec 001d`, `"key_shares": "11ec 001d 0100`, `0100 is not among groups`},
		{`"versions": "grease 0304 0303"`, `"versions": "grease 0303"`, `tls.versions`},
		{`"versions": "grease 0304 0303"`, `"versions": "0304 0305"`, `tls.versions`},
		{`"certificate_compression": "0002"`, `"certificate_compression": ""`, `tls.certificate_compression`},
		{`"h2"`, `""`, `a protocol has`},
		{`"aeads": [`, `"aeads": [4,`, `tls.ech_grease`},
		{`"family": "chrome"`, `"family": "lynx"`, `family`},
		{`"stream": 1`, `"stream": 5`, `http2.stream`},
		{`"stream": 1`, `"stream_window": 4294967295, "stream": 3`, `http2.stream_window`},
		{`"hpack": "shortest"`, `"hpack": "longest"`, `http2.hpack`},
		{`"shuffled": true`, `"not_returning": "0001"`, `tls.not_returning`},
		{`"shuffled": true`, `"not_returning": "002b"`, `tls.not_returning`},
		{`"shuffled": true`, `"not_returning": "0023"`, ``},
		{`"key_shares": "grease 11ec 001d"`, `"one_x25519": true, "key_shares": "11ec"`, `tls.one_x25519`},
		{`"type": "44cd"`, `"type": "44ce", "body": "00"`, `tls.application_settings`},
		{`"user-agent: `, `"user-agent: ` + strings.Repeat("x", maxHeaders), `http2.headers`},
		{`144,`, `16,`, `tls.ech_grease.payloads`},
		{`"type": "ca34"`, `"type": "cb35"`, ``}, // an extension that we do not know has its body, and that is enough
		{`"type": "ca34"`, `"type": "caca"`, `is GREASE`},
		{`"type": "ca34"`, `"type": "0029"`, `has no place`},
		{`"type": "ca34"`, `"type": "0005"`, `is there twice`},
		{`"type": "0012"`, `"type": "0013"`, `is unknown and has no body`},
		{`"name": "session_ticket"`, `"body": "00"`, `has a body`},
		{`"type": "002b"`, `"type": "0022", "body": "00"`, `002b is missing`},
		{`"window_update": 15663105`, `"window_update": 0`, `http2.window_update`},
		{`"weight": 256`, `"weight": 257`, `http2.priority`},
		{`"depends_on": 0`, `"depends_on": 1`, `http2.priority`},
		{`":authority:"`, `":authority: host"`, `have no value`},
		{`":scheme: https"`, `":status: 200"`, `":status" has no place`},
		{`"cookie:"`, `"Cookie:"`, `"Cookie:"`},
		{`"cookie:",`, ``, `"cookie" is missing`},
		{`"accept-language: en`, `"accept: en`, `"accept" is there twice`},
		{`"accept-language: en-US,en;q=0.9"`, `"accept-language"`, `"name: value"`},
	}
	for _, tt := range tests {
		text := strings.Replace(string(chromeText), tt.old, tt.new, 1)
		if tt.new != tt.old && text == string(chromeText) {
			t.Errorf("the profile has no %s", tt.old)
		}
		switch _, err := ParseProfile([]byte(text)); {
		case tt.want == "" && err != nil:
			t.Errorf("with %s for %s: %v", tt.new, tt.old, err)
		case tt.want != "" && err == nil:
			t.Errorf("with %s for %s: no error, want %q", tt.new, tt.old, tt.want)
		case tt.want != "" && !strings.Contains(err.Error(), tt.want):
			t.Errorf("with %s for %s: %v, want %q", tt.new, tt.old, err, tt.want)
		}
	}
	if _, err := ParseProfile(append(chromeText[:len(chromeText):len(chromeText)], "{}"...)); err == nil {
		t.Error("a second profile after the first was not refused")
	}
}

// FuzzParseProfile wants that whatever is not refused can be written again, and sent.
func FuzzParseProfile(f *testing.F) {
	f.Add(chromeText)
	f.Add(firefoxText)
	f.Add([]byte(`{}`))
	f.Add([]byte(strings.ReplaceAll(string(chromeText), `"type": "ca34"`, `"type": "cb35"`)))
	f.Add([]byte(strings.ReplaceAll(string(chromeText), `001d`, `0017`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProfile(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if q, err := ParseProfile(again); err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("written and read again: %v\n%s", err, again)
		}
		b := &Browser{profile: p}
		u, err := b.Client(nil, &utls.Config{ServerName: "site.test"})
		if err != nil {
			t.Fatal(err)
		}
		if err := u.BuildHandshakeState(); err != nil {
			t.Fatal(err)
		}
		b.Opening("site.test", "a=b; c=d")
	})
}
