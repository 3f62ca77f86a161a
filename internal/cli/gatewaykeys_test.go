package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
)

func TestInitCertificate(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string][]string{
		"vpn.example.com": {"from a CA", "Let's Encrypt", "publish"},
		"203.0.113.7":     {"signed by itself", "unusual", "--endpoint NAME:443"},
	} {
		dir := filepath.Join(t.TempDir(), "gateway")
		try(t, nil, "gateway", "init", "--state-dir", dir, "--endpoint", endpoint).want(t, 0, want...)
		mode := map[bool]string{true: "acme", false: "self"}[endpoint == "vpn.example.com"]
		doc := document[initDoc](t, try(t, nil, "gateway", "init", "--state-dir", dir, "--json"), "godwit.gateway.init/1")
		if doc.Certificate != mode {
			t.Errorf("%s: %q", endpoint, doc.Certificate)
		}
		try(t, nil, "config", "check", "--state-dir", dir).want(t, 0)
	}
}

// A text that was handed out survives one rotation and not two; nothing happens without --yes.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	text := func() accesskey.Key {
		t.Helper()
		k, err := accesskey.Parse(try(t, nil, "key", "show", "first", "--state-dir", w.state).want(t, 0).stdout)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	before := text()
	try(t, nil, "gateway", "rotate-key", "--state-dir", w.state).want(t, exitUsage, "cut off", "go on", "--yes",
		"nothing was changed")
	if again := text(); again.Pin != before.Pin || again.NextPin != before.NextPin {
		t.Error("it was changed")
	}
	next := try(t, nil, "gateway", "csr", "--next", "--state-dir", w.state).want(t, 0, "BEGIN CERTIFICATE REQUEST")
	now := try(t, nil, "gateway", "csr", "--state-dir", w.state).want(t, 0, "BEGIN CERTIFICATE REQUEST")
	if next.stdout == now.stdout || strings.Contains(now.stdout, "PRIVATE") {
		t.Error("the requests are not for the two keys")
	}
	try(t, nil, "gateway", "rotate-key", "--yes", "--state-dir", w.state).want(t, 0, "is the gateway's now", "again")
	one := text()
	if one.Pin != before.NextPin || one.NextPin == before.Pin || one.NextPin == one.Pin {
		t.Error("the next key is not the key")
	}
	try(t, nil, "gateway", "rotate-key", "--yes", "--state-dir", w.state).want(t, 0)
	if two := text(); two.Pin != one.NextPin || two.Pin == before.Pin || two.Pin == before.NextPin {
		t.Error("the second rotation did not")
	}
	if entries, err := os.ReadDir(filepath.Join(w.state, "keys")); err != nil || strings.Contains(names(entries), "after") {
		t.Errorf("%s, %v", names(entries), err)
	}
}

func names(entries []os.DirEntry) string {
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}
