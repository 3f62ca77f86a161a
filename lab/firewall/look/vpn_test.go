package look

import (
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Crafted after the RFCs that the parsers cite.
const (
	ike2  = "1122334455667788000000000000000021202208000000000000001c"
	ike1  = "11223344556677880000000000000000011002000000000000" + "00001c"
	pptp  = "000c00011a2b3c4d00010000"
	sccrq = "c802001400000000000000008008000000000001"
	zlb   = "c802000c0001000000010001"
)

func TestVPN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, hex string
		version   int
	}{
		{"version 2", ike2, 2},
		{"version 1", ike1, 1},
		{"after the marker", "00000000" + ike2, 2},
		{"a flag too many", "1122334455667788000000000000000021202209000000000000001c", 0},
		{"another length", "1122334455667788000000000000000021202208000000000000001d", 0},
		{"a length of more than 31 bits", "11223344556677880000000000000000212022080000000080000000", 0},
		{"short", ike2[:54], 0},
		{"zeros", "00000000000000000000000000000000000000000000000000000000", 0},
	} {
		if v, err := IKE(unhex(t, c.hex)); v != c.version || (err == nil) != (c.version != 0) {
			t.Errorf("IKE %s: %d, %v", c.name, v, err)
		}
	}
	if c, err := PPTP(unhex(t, pptp)); c != 1 || err != nil {
		t.Errorf("PPTP: %d, %v", c, err)
	}
	if _, err := PPTP(unhex(t, pptp+"00")); err == nil {
		t.Error("PPTP of another length")
	}
	if c, err := L2TP(unhex(t, sccrq)); c != L2TPStart || err != nil {
		t.Errorf("SCCRQ: %d, %v", c, err)
	}
	if c, err := L2TP(unhex(t, zlb)); c != L2TPOther || err != nil {
		t.Errorf("an acknowledgement: %d, %v", c, err)
	}
	if _, err := L2TP(unhex(t, "c803"+zlb[4:])); err == nil {
		t.Error("L2TP version 3 is version 2")
	}
}

func FuzzVPN(f *testing.F) {
	for _, s := range []string{ike2, ike1, "00000000" + ike2, pptp, sccrq, zlb} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		IKE(b)
		ESPinUDP(b)
		PPTP(b)
		L2TP(b)
	})
}

func FuzzDTLS(f *testing.F) {
	hello := "feff" + "0000000000000000000000000000000000000000000000000000000000000000" + "00" + "02abcd" + "0002c02b" + "0100" + "0008" + "000a000400020017"
	f.Add(unhex(f, "16feff00000000000000000042"+"010000360000000000000036"+hello))
	f.Fuzz(func(_ *testing.T, b []byte) {
		m, err := DTLS(b)
		if err != nil {
			return
		}
		if h, err := m.ClientHello(); err == nil {
			h.JA3()
			h.JA4()
		}
		m.ServerExtensions()
	})
}

func TestDTLS(t *testing.T) {
	t.Parallel()
	// A ClientHello with a cookie, crafted after RFC 6347, section 4.2.1.
	body := "fefd" + "0000000000000000000000000000000000000000000000000000000000000000" + "00" + "02abcd" + "0002c02b" + "0100" + "0008" + "000a000400020017"
	m, err := DTLS(unhex(t, "16feff00000000000000000042"+"010000360000000000000036"+body))
	if err != nil {
		t.Fatal(err)
	}
	h, err := m.ClientHello()
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Ciphers) != 1 || h.Ciphers[0] != 0xc02b || len(h.List(10)) != 1 || h.JA4()[:4] != "dd2i" {
		t.Errorf("%+v, %s", h, h.JA4())
	}
	for _, c := range []struct{ name, hex string }{
		{"TLS", "1603010042" + "01000036" + body},
		{"an epoch with keys", "16feff00010000000000000042" + "010000360000000000000036" + body},
		{"a part without the rest", "16feff00000000000000000042" + "010000360000000001000036" + body},
	} {
		if m, err := DTLS(unhex(t, c.hex)); err == nil {
			t.Errorf("%s is a handshake of DTLS: %+v", c.name, m)
		}
	}
}
