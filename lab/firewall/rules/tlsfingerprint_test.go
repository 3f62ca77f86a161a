package rules

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

func TestTLSFingerprint(t *testing.T) {
	t.Parallel()
	conn := func(text string) []firewalltest.Frame {
		return firewalltest.Conn(t, firewall.TCP, "192.0.2.10:40000", "203.0.113.20:443", 0, ">"+text, "<x")
	}
	golang := hello(t, "www.banned.example")
	h, err := look.ClientHello([]byte(golang), false)
	if err != nil {
		t.Fatal(err)
	}
	recordings := map[string][]firewalltest.Frame{
		"Go": conn(golang), "curl": recorded(t, "direct-https-allowed"), "Chromium": recorded(t, "chromium-https-allowed"),
		"trojan": recorded(t, "trojan"), "reality": recorded(t, "reality"), "tor": replayed(t, "tor"), "ssh": recorded(t, "ssh"),
		"dns": recorded(t, "dns"), "QUIC": recorded(t, "quic-allowed"), "HTTP": recorded(t, "http-allowed"),
		"fake": conn(withExtension(t, golang, 0xfe02)),
	}
	// JA3 of programs as Wireshark gives it.
	const chromeSuites = "grease 1301 1302 1303 c02b c02f c02c c030 cca9 cca8 c013 c014 009c 009d 002f 0035"
	const curl, tor = "0149f47eabf9a20d0893e2a44e5a6323", "5e6627dc19afa982e6b46b97808cb718"
	for _, c := range []struct {
		name string
		rule TLSFingerprint
		hit  []string
	}{
		{"JA3", TLSFingerprint{JA3: []string{curl, tor}}, []string{"curl", "tor"}},
		{"Go's own", TLSFingerprint{JA4: []string{h.JA4()}}, []string{"Go"}},
		{"a stale Chrome", TLSFingerprint{JA4: []string{"t13d1516h2_8daaf6152771_d8a2da3f94cd"}}, []string{"trojan", "reality"}},
		{"the beginning of a JA4", TLSFingerprint{JA4: []string{"t13d1516h2_*"}}, []string{"trojan", "reality"}},
		{"a stale Chrome without pre_shared_key", TLSFingerprint{JA4: []string{"t13d1516h2_*"}, Missing: []int{41}}, []string{"trojan", "reality"}},
		{"with pre_shared_key", TLSFingerprint{Extensions: []int{41}}, nil},
		{"an extension", TLSFingerprint{Extensions: []int{0xfe02}}, []string{"fake"}},
		{"suites", TLSFingerprint{Ciphers: []string{"1301 1303 1302 c02b c02f cca9"}}, []string{"tor"}},
		{"only some names", TLSFingerprint{JA4: []string{"t*"}, Names: Names{"banned.example"}}, []string{"Go", "fake"}},
		{"not some names", TLSFingerprint{JA4: []string{"t*"}, Except: Names{"allowed.example", "banned.example"}}, []string{"tor"}},
		{"Chrome's suites, but not as it is today", TLSFingerprint{Ciphers: []string{chromeSuites}, ExceptJA4: []string{"t13d1517h2_8daaf6152771_*"}},
			[]string{"trojan", "reality"}},
		{"Chrome's suites", TLSFingerprint{Ciphers: []string{chromeSuites}}, []string{"trojan", "reality", "Chromium"}},
		{"all others", TLSFingerprint{JA4: []string{"t13d1516h2_*", "t13d1517h2_*"}, JA3: []string{curl}, Others: true}, []string{"Go", "tor", "fake"}},
	} {
		c.rule.Then = cut
		want := map[string]bool{}
		for _, name := range c.hit {
			want[name] = true
		}
		for name, frames := range recordings {
			if got := fired(t, Set{TLSFingerprint: []*TLSFingerprint{&c.rule}}, frames); (len(got) > 0) != want[name] {
				t.Errorf("%s: %s: fired %q", c.name, name, got)
			}
		}
	}
	t.Run("no answer, a reset", func(t *testing.T) {
		for _, then := range []Then{{Drop: true, Block: scope(firewall.Connection)}, {Reset: []Injector{injectors[4]}, Drop: true}} {
			box := newBox(t, firewall.InPath, Set{TLSFingerprint: []*TLSFingerprint{{JA4: []string{h.JA4()}, Then: then}}})
			res := firewalltest.Pass(box, conn(golang))
			if len(res.Dropped) == 0 || res.Dropped[0] != 3 || len(then.Reset) > 0 != (len(res.Forged) == 2) {
				t.Errorf("dropped %v, forged %d", res.Dropped, len(res.Forged))
			}
		}
	})
}

// withExtension adds an empty extension at the end of a hello: crafted, as Telegram's was.
func withExtension(t testing.TB, record string, number uint16) string {
	t.Helper()
	b := []byte(record)
	add := func(at, size int) {
		n := 4
		for i := at + size - 1; i >= at; i-- {
			n += int(b[i])
			b[i] = byte(n)
			n >>= 8
		}
	}
	at := 5 + 4 + 2 + 32
	at += 1 + int(b[at])
	at += 2 + int(b[at])<<8 + int(b[at+1])
	at += 1 + int(b[at])
	add(3, 2)
	add(6, 3)
	add(at, 2)
	return string(append(b, byte(number>>8), byte(number), 0, 0))
}
