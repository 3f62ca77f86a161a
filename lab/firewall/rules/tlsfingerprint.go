package rules

import (
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// TLSFingerprint looks at how a ClientHello is made: by lists of JA3 and JA4, by cipher suites, by extensions that are there
// or missing.
//
// Iran, 2022-10: some prints of Go's crypto/tls, with AES-GCM first and of Go 1.18 or later (net4people/bbs 125, 131); 2022-11:
// Chrome 107 on one network, undone in December (153). 2026-07, the other way about: all but lists of cipher suites like
// Python's (Xray-core 6450). Turkmenistan, 2022: prints of uTLS (512). Russia, 2026-04: Telegram's, with extension 0xfe02;
// 2026-05: JA4 t13d1516h2_8daaf6152771_d8a2da3f94cd, which is an older Chrome's (tdesktop 30733), and Chrome without
// pre_shared_key (30910). All are users' findings. V2Ray's own list of suites tells it from all else with an accuracy of
// 0.9999 (a study of 2020). A Go program's print depends on its Go and its processor: list it by its hash.
type TLSFingerprint struct {
	Aim
	// JA3 are hashes. JA4 are too; what ends in "*" is the beginning of one.
	JA3 []string `toml:"ja3"`
	JA4 []string `toml:"ja4"`
	// ExceptJA4 are let be, whatever else fits: with a browser's suites in Ciphers and what it sends today here, all that only
	// looks like it is hit.
	ExceptJA4 []string `toml:"except-ja4"`
	// Ciphers are beginnings of the list of suites, each written "grease 1301 c02b".
	Ciphers []string `toml:"ciphers"`
	// Extensions are numbers that all have to be there, Missing of those that must not.
	Extensions []int `toml:"extensions"`
	Missing    []int `toml:"missing"`
	// Names and Except narrow it by the SNI; empty is every name, and none.
	Names  Names `toml:"names"`
	Except Names `toml:"except"`
	// Others turns it around: all are hit but those that are listed.
	Others  bool `toml:"others"`
	Records bool `toml:"records"`
	Then    Then `toml:"then"`
}

func (r *TLSFingerprint) check(place firewall.Place) error {
	if len(r.JA3)+len(r.JA4)+len(r.Ciphers)+len(r.Extensions)+len(r.Missing) == 0 {
		return wrong("ja4", "is missing, and so are ja3, ciphers, extensions and missing: there is nothing to look for")
	}
	return checkAll(&r.Aim, &r.Then, place, checkJA3("ja3", r.JA3), checkExtensions("extensions", r.Extensions),
		checkExtensions("missing", r.Missing))
}

func checkJA3(field string, list []string) error {
	for _, s := range list {
		if len(s) != 32 || strings.Trim(s, "0123456789abcdef") != "" {
			return wrong(field, "%q is no JA3: it has 32 hexadecimal digits, in lower case", s)
		}
	}
	return nil
}

func checkExtensions(field string, list []int) error {
	for _, n := range list {
		if n < 0 || n > 0xffff {
			return wrong(field, "%d is no extension", n)
		}
	}
	return nil
}

// Watch looks at what the client says first.
func (r *TLSFingerprint) Watch(f *firewall.Flow) firewall.Watcher {
	if f.Proto != firewall.TCP || !r.at(f) {
		return nil
	}
	return firewall.WatchFunc(func(f *firewall.Flow, p *firewall.Packet, do *firewall.Action) {
		hello := helloOf(p, do, r.Records)
		if hello == nil {
			return
		}
		name := look.ServerName(hello)
		if len(r.Names) > 0 && r.Names.Match(name) == "" || r.Except.Match(name) != "" {
			return
		}
		if len(r.ExceptJA4) > 0 && inJA4(r.ExceptJA4, hello.JA4()) {
			return
		}
		if what := r.match(hello); (what != "") != r.Others {
			r.Then.do(f, do, "fingerprint %s", or(what, "of another kind, "+hello.JA4()))
		}
	})
}

// match says what of a hello is listed. Lists are alternatives; extensions narrow them.
func (r *TLSFingerprint) match(h *clienthello.Hello) string {
	for _, n := range r.Extensions {
		if _, ok := h.Extension(uint16(n)); !ok {
			return ""
		}
	}
	for _, n := range r.Missing {
		if _, ok := h.Extension(uint16(n)); ok {
			return ""
		}
	}
	return listed(h, r.JA3, r.JA4, r.Ciphers, "by its extensions")
}

// listed says which entry a hello is on; without any lists it is on all.
func listed(h *clienthello.Hello, ja3, ja4, ciphers []string, all string) string {
	if len(ja3)+len(ja4)+len(ciphers) == 0 {
		return all
	}
	if len(ja3) > 0 {
		if got := h.JA3(); slices.Contains(ja3, got) {
			return "JA3 " + got
		}
	}
	if len(ja4) > 0 {
		if got := h.JA4(); inJA4(ja4, got) {
			return "JA4 " + got
		}
	}
	for _, want := range ciphers {
		if strings.HasPrefix(clienthello.Codes(h.Ciphers)+" ", strings.TrimSpace(want)+" ") {
			return "cipher suites " + want
		}
	}
	return ""
}

// inJA4 reports whether a JA4, or its beginning and "*", is listed.
func inJA4(list []string, got string) bool {
	return slices.ContainsFunc(list, func(want string) bool {
		begin, open := strings.CutSuffix(want, "*")
		return got == want || open && strings.HasPrefix(got, begin)
	})
}
