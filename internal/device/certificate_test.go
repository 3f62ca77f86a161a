package device

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"
)

var issued = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func control(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func publicOf(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func sample(t testing.TB) *Certificate {
	t.Helper()
	return &Certificate{
		Network:   [8]byte{1, 2, 3, 4, 5, 6, 7, 8},
		AccessKey: [8]byte{11, 12, 13, 14, 15, 16, 17, 18},
		Device:    [32]byte(seeded(t, 3).Public()),
		Issued:    issued,
		NotBefore: issued.Add(-time.Hour),
		NotAfter:  issued.Add(Lifetime),
	}
}

func signed(t testing.TB, c *Certificate) []byte {
	t.Helper()
	b, err := c.Sign(control(9))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parsed(t testing.TB, b []byte) *Certificate {
	t.Helper()
	c, err := ParseCertificate(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The bytes are a promise to every gateway that is not updated on the same day.
func TestCertificateBytes(t *testing.T) {
	t.Parallel()
	b := signed(t, sample(t))
	want := strings.Join([]string{
		"01", "00",
		"0102030405060708",
		"0b0c0d0e0f101112",
		"d8409e041ae4a6f5",
		hex.EncodeToString(seeded(t, 3).Public()),
		"000000006b042ac0", // 2026-11-23 12:00:00
		"000000006b041cb0",
		"000000006b0d6540",
		strings.Repeat("00", 16),
	}, "")
	if got := hex.EncodeToString(b[:bodySize]); got != want {
		t.Errorf("body is\n%s, want\n%s", got, want)
	}
	message := append([]byte("godwit device certificate v1\x00"), b[:98]...)
	if !ed25519.Verify(publicOf(control(9)), message, b[98:]) {
		t.Error("the signature is not over the documented message")
	}
	if len(b) != CertificateSize {
		t.Errorf("certificate has %d bytes, want %d", len(b), CertificateSize)
	}
}

func TestCertificateRoundTrip(t *testing.T) {
	t.Parallel()
	want := sample(t)
	c := parsed(t, signed(t, want))
	if c.Network != want.Network || c.AccessKey != want.AccessKey || c.Device != want.Device ||
		!c.Issued.Equal(want.Issued) || !c.NotBefore.Equal(want.NotBefore) || !c.NotAfter.Equal(want.NotAfter) {
		t.Errorf("parsed %+v, want %+v", c, want)
	}
	if c.ID() != seeded(t, 3).ID() {
		t.Errorf("id is %v, want %v", c.ID(), seeded(t, 3).ID())
	}
	if want := issued.Add(48 * time.Hour); !c.RenewAt().Equal(want) {
		t.Errorf("renew at %v, want %v", c.RenewAt(), want)
	}
}

func TestCertificateVerify(t *testing.T) {
	t.Parallel()
	b := signed(t, sample(t))
	for name, tc := range map[string]struct {
		control ed25519.PublicKey
		now     time.Time
		want    error
	}{
		"now":                {publicOf(control(9)), issued, nil},
		"first second":       {publicOf(control(9)), issued.Add(-time.Hour), nil},
		"second before":      {publicOf(control(9)), issued.Add(-time.Hour - time.Second), ErrNotYetValid},
		"last second":        {publicOf(control(9)), issued.Add(Lifetime - time.Second), nil},
		"end":                {publicOf(control(9)), issued.Add(Lifetime), ErrExpired},
		"another control":    {publicOf(control(8)), issued, ErrBadSignature},
		"forged and expired": {publicOf(control(8)), issued.Add(Lifetime), ErrBadSignature},
		"no control key":     {nil, issued, ErrBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			if err := parsed(t, b).Verify(tc.control, tc.now); !errors.Is(err, tc.want) {
				t.Errorf("error is %v, want %v", err, tc.want)
			}
		})
	}
}

func TestCertificateEveryBitCounts(t *testing.T) {
	t.Parallel()
	good := signed(t, sample(t))
	for i := range len(good) * 8 {
		b := bytes.Clone(good)
		b[i/8] ^= 1 << (i % 8)
		c, err := ParseCertificate(b)
		if err != nil {
			continue
		}
		if err := c.Verify(publicOf(control(9)), issued); !errors.Is(err, ErrBadSignature) {
			t.Errorf("bit %d of byte %d flipped: error is %v, want %v", i%8, i/8, err, ErrBadSignature)
		}
	}
}

func TestCertificateChangedAfterParsing(t *testing.T) {
	t.Parallel()
	b := signed(t, sample(t))
	c := parsed(t, b)
	b[30] ^= 1
	if err := c.Verify(publicOf(control(9)), issued); err != nil {
		t.Errorf("the caller's buffer is still used: %v", err)
	}
	if err := sample(t).Verify(publicOf(control(9)), issued); !errors.Is(err, ErrBadSignature) {
		t.Errorf("a certificate that nobody signed: error is %v, want %v", err, ErrBadSignature)
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	t.Parallel()
	good := signed(t, sample(t))
	change := func(f func(b []byte)) []byte {
		b := bytes.Clone(good)
		f(b)
		return b
	}
	for name, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":           {nil, ErrMalformed},
		"cut off":           {good[:161], ErrMalformed},
		"trailing byte":     {append(bytes.Clone(good), 0), ErrMalformed},
		"version 0":         {change(func(b []byte) { b[0] = 0 }), ErrVersion},
		"version 2":         {change(func(b []byte) { b[0] = 2 }), ErrVersion},
		"version 2, longer": {append([]byte{2}, make([]byte, 400)...), ErrVersion},
		"flag":              {change(func(b []byte) { b[1] = 0x80 }), ErrMalformed},
		"first limit":       {change(func(b []byte) { b[82] = 1 }), ErrMalformed},
		"last limit":        {change(func(b []byte) { b[97] = 1 }), ErrMalformed},
		"far future":        {change(func(b []byte) { binary.BigEndian.PutUint64(b[74:], maxTime+1) }), ErrMalformed},
		"negative time":     {change(func(b []byte) { binary.BigEndian.PutUint64(b[66:], 1<<63) }), ErrMalformed},
		"ends at issue":     {change(func(b []byte) { copy(b[74:82], b[58:66]) }), ErrMalformed},
		"begins late":       {change(func(b []byte) { copy(b[66:74], b[58:66]); b[73]++ }), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := ParseCertificate(tc.b); !errors.Is(err, tc.want) {
				t.Errorf("got %+v, error %v, want %v", c, err, tc.want)
			}
		})
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	c := sample(t)
	c.NotAfter = c.Issued
	if _, err := c.Sign(control(9)); !errors.Is(err, ErrMalformed) {
		t.Errorf("ends at issue: error is %v, want %v", err, ErrMalformed)
	}
	c = sample(t)
	c.NotBefore = time.Time{} // before 1970: not a number of seconds a certificate can hold
	if _, err := c.Sign(control(9)); !errors.Is(err, ErrMalformed) {
		t.Errorf("year 1: error is %v, want %v", err, ErrMalformed)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sample(t).Sign(other); err == nil {
		t.Error("an ECDSA key signed a certificate")
	}
}

func FuzzParseCertificate(f *testing.F) {
	good := signed(f, sample(f))
	f.Add(good)
	f.Add(good[:97])
	f.Add([]byte{2})
	f.Add([]byte{})
	forever := sample(f)
	forever.NotAfter = time.Unix(maxTime, 0)
	f.Add(signed(f, forever))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCertificate(b)
		if err != nil {
			return
		}
		if len(b) != CertificateSize {
			t.Fatalf("%d bytes were accepted", len(b))
		}
		// Whatever is accepted says the same when it is written again; only signer and signature are the writer's own.
		again, err := c.Sign(control(9))
		if err != nil {
			t.Fatalf("accepted, but cannot be written: %v", err)
		}
		if !bytes.Equal(again[:18], b[:18]) || !bytes.Equal(again[26:bodySize], b[26:bodySize]) {
			t.Errorf("read %x, writes %x", b, again)
		}
		err = c.Verify(publicOf(control(9)), issued)
		if err == nil && !bytes.Equal(again, b) {
			t.Errorf("%x passed for signed", b)
		}
	})
}
