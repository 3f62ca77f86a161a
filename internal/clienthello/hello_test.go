package clienthello

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// chromium is a hello of Chromium 156.0.8078.108, as recorded.
func chromium(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "chromium-156.hex"))
	if err != nil {
		t.Fatal(err)
	}
	record, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestParseHello(t *testing.T) {
	t.Parallel()
	record := chromium(t)
	h, err := ParseHello(record)
	if err != nil {
		t.Fatal(err)
	}
	// What FoxIO's own ja4.py says of Chromium 156.
	if got, want := h.JA4(), "t13d1517h2_8daaf6152771_cb7bf5808d99"; got != want {
		t.Errorf("JA4 is %s, want %s", got, want)
	}
	if ech := h.ECH(); ech == nil || len(ech.Enc) != 32 || len(ech.Payload)%32 != 16 {
		t.Errorf("encrypted_client_hello is %+v", ech)
	}
	if got := Codes(h.List(SupportedVersions)); got != "grease 0304 0303" {
		t.Errorf("versions are %s", got)
	}
	if got := h.Protocols(ALPN); len(got) != 2 || got[0] != "h2" || got[1] != "http/1.1" {
		t.Errorf("protocols are %q", got)
	}
	if got := len(h.Greased()); got != 7 {
		t.Errorf("GREASE in %d places: %v", got, h.Greased())
	}
	for n := range record {
		if _, err := ParseHello(record[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes are a hello too", n, len(record))
		}
	}
	if _, err := ParseHello(append(record, 0)); err == nil {
		t.Error("a byte more is a hello too")
	}
}

func FuzzParseHello(f *testing.F) {
	f.Add(chromium(f))
	f.Fuzz(func(_ *testing.T, record []byte) {
		h, err := ParseHello(record)
		if err != nil {
			return
		}
		h.Fields()
		h.Order()
		h.JA3()
		h.JA4()
	})
}
