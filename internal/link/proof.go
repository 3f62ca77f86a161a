package link

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/godwit-vpn/godwit/internal/transport"
)

const (
	pipeProofText = "godwit pipe proof v1\x00"
	pipeMaskText  = "godwit pipe mask v1\x00"
	pipeShadeText = "godwit pipe shade v1\x00"
	holdersText   = "godwit holders v1\x00"
)

var (
	_ transport.Prover   = Knock{}
	_ transport.Verifier = Door{}
)

// Prove implements transport.Prover.
func (k Knock) Prove(nonce []byte) []byte {
	if k.Directory == [ed25519.PublicKeySize]byte{} {
		return nil
	}
	return pipeProof(k.KeyID, k.Secret, k.Directory, nonce)
}

// Shade implements transport.Shader.
func (k Knock) Shade(nonce []byte) [32]byte { return holders(k.Directory, pipeShadeText, nonce) }

// Proves implements transport.Verifier.
func (d Door) Proves(nonce, proof []byte) bool {
	whole := len(proof) == transport.ProofLen && d.Directory != [ed25519.PublicKeySize]byte{}
	if len(proof) != transport.ProofLen {
		proof = make([]byte, transport.ProofLen) // and go on: it takes as long
	}
	mask := holders(d.Directory, pipeMaskText, nonce)
	var id [8]byte
	subtle.XORBytes(id[:], proof[:len(id)], mask[:])
	right := hmac.Equal(pipeProof(id, d.Secret(id), d.Directory, nonce), proof)
	return right && whole
}

// Shade implements transport.Shader.
func (d Door) Shade(nonce []byte) [32]byte { return holders(d.Directory, pipeShadeText, nonce) }

func pipeProof(id [8]byte, secret [16]byte, directory [ed25519.PublicKeySize]byte, nonce []byte) []byte {
	mask := holders(directory, pipeMaskText, nonce)
	b := make([]byte, len(id), len(id)+sha256.Size)
	subtle.XORBytes(b, id[:], mask[:])
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte(pipeProofText))
	m.Write(nonce)
	return m.Sum(b)[:transport.ProofLen]
}

// holders is what those who know the directory's public key can compute of a nonce.
func holders(directory [ed25519.PublicKeySize]byte, text string, nonce []byte) [32]byte {
	key := sha256.Sum256(append([]byte(holdersText), directory[:]...))
	m := hmac.New(sha256.New, key[:])
	m.Write([]byte(text))
	m.Write(nonce)
	return [32]byte(m.Sum(nil))
}
