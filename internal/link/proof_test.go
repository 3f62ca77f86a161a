package link

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
)

var directory = [32]byte{7, 7, 7}

func provers(t *testing.T) (Knock, Door) {
	k, d := newKnock(t), door
	k.Directory, d.Directory = directory, directory
	return k, d
}

func TestProof(t *testing.T) {
	k, d := provers(t)
	nonce := []byte("a nonce of 16 b.")
	proof := k.Prove(nonce)
	if len(proof) != transport.ProofLen || !d.Proves(nonce, proof) {
		t.Fatalf("a proof of %d bytes is not one", len(proof))
	}
	for bit := range len(proof) * 8 {
		proof[bit/8] ^= 1 << (bit % 8)
		if d.Proves(nonce, proof) {
			t.Errorf("bit %d does not matter", bit)
		}
		proof[bit/8] ^= 1 << (bit % 8)
	}
	for name, wrong := range map[string]bool{
		"another nonce":     d.Proves([]byte("another"), proof),
		"too short":         d.Proves(nonce, proof[:23]),
		"too long":          d.Proves(nonce, append(bytes.Clone(proof), 0)),
		"none":              d.Proves(nonce, nil),
		"another network":   Door{Secret: secretOf, Directory: [32]byte{8}}.Proves(nonce, proof),
		"another door key":  Door{Secret: func([8]byte) [16]byte { return [16]byte{1} }, Directory: directory}.Proves(nonce, proof),
		"no directory key":  Door{Secret: secretOf}.Proves(nonce, proof),
		"no directory keys": Door{Secret: secretOf}.Proves(nonce, newKnock(t).Prove(nonce)),
	} {
		if wrong {
			t.Errorf("%s: it is taken for a proof", name)
		}
	}
	if newKnock(t).Prove(nonce) != nil {
		t.Error("a proof without the directory's key")
	}
}

// Nothing repeats: not the key id, and no byte of the rest, from one nonce to the next.
func TestProofsAreUnlinkable(t *testing.T) {
	k, d := provers(t)
	a, b := k.Prove([]byte("one")), k.Prove([]byte("two"))
	if bytes.Equal(a[:8], b[:8]) || bytes.Equal(a[8:], b[8:]) || bytes.Contains(a, k.KeyID[:3]) {
		t.Error("two proofs of one key have something in common")
	}
	if k.Shade([]byte("one")) != d.Shade([]byte("one")) || k.Shade([]byte("one")) == k.Shade([]byte("two")) {
		t.Error("the shade is not that of the nonce")
	}
}

// The bytes are the protocol's.
func TestProofAsRecorded(t *testing.T) {
	k := Knock{KeyID: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, Secret: [16]byte{9}, Directory: [32]byte{10}}
	nonce := make([]byte, 16)
	shade := k.Shade(nonce)
	if got := hex.EncodeToString(k.Prove(nonce)) + " " + hex.EncodeToString(shade[:]); got != recordedProof {
		t.Errorf("the proof and the shade are %s", got)
	}
}

const recordedProof = "792a8ac09fc6ab95f092930a3a9e7a2e358dcefbf9232afe " +
	"9a252245a043143039a2080a8917ee46a8755d5437264b666f6b8bb7bae3c5b6"

func FuzzProves(f *testing.F) {
	k := Knock{KeyID: [8]byte{1}, Secret: secretOf([8]byte{1}), Directory: directory}
	d := Door{Secret: secretOf, Directory: directory}
	f.Add([]byte("nonce"), k.Prove([]byte("nonce")))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, nonce, proof []byte) {
		if d.Proves(nonce, proof) && !bytes.Equal(proof, k.Prove(nonce)) {
			t.Skip("the proof of another key") // only the seed's can be found
		}
		if !d.Proves(nonce, k.Prove(nonce)) {
			t.Error("a right proof does not open")
		}
	})
}
