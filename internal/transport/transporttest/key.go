package transporttest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// keyLabel is what the suite's knock is exported under.
const keyLabel = "EXPORTER-transporttest"

// Key is the opener of the suite; it opens a Lock.
type Key struct {
	filler
	Wrong    bool // its knock is
	Unproven bool // its proof is wrong
}

// Knock implements transport.Opener.
func (k Key) Knock(s transport.Secured) ([]byte, error) {
	b, err := s.Export(keyLabel, nil, transport.MaxKnock)
	if err == nil && k.Wrong {
		b[0] ^= 1
	}
	return b, err
}

// Prove implements transport.Prover.
func (k Key) Prove(nonce []byte) []byte {
	b := proof(nonce)
	if k.Unproven {
		b[0] ^= 1
	}
	return b
}

func proof(nonce []byte) []byte {
	h := sha256.Sum256(append([]byte("proof"), nonce...))
	return h[:transport.ProofLen]
}

// Lock is the door of the suite.
type Lock struct{ filler }

// Proves implements transport.Verifier.
func (Lock) Proves(nonce, p []byte) bool { return bytes.Equal(p, proof(nonce)) }

// Opens implements transport.Door.
func (Lock) Opens(s transport.Secured, knock []byte) bool {
	b, err := s.Export(keyLabel, nil, transport.MaxKnock)
	return err == nil && bytes.HasPrefix(knock, b)
}

// The suite's connections carry frames: kind (8), length (24), bytes.
const (
	kindFiller = iota
	kindData
)

func appendFrame(b []byte, kind byte, p []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(kind)<<24|uint32(len(p))), p...)
}

type filler struct{}

// Shade implements transport.Shader.
func (filler) Shade(nonce []byte) [32]byte { return sha256.Sum256(append([]byte("shade"), nonce...)) }

// AppendFiller implements transport.Filler.
func (filler) AppendFiller(b []byte, n int) []byte {
	return appendFrame(b, kindFiller, make([]byte, n-transport.LeastFiller))
}

// framed is a connection whose filler is left out.
type framed struct {
	transport.Conn
	left int // of the data frame under way
}

func (f *framed) key(t *testing.T) []byte {
	b, err := f.Export(keyLabel, nil, transport.MaxKnock)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Write implements net.Conn.
func (f *framed) Write(p []byte) (int, error) {
	return len(p), transport.WriteBatch(f.Conn, [][]byte{appendFrame(nil, kindData, p)})
}

// WriteBatch implements transport.BatchWriter.
func (f *framed) WriteBatch(bufs [][]byte) error {
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	head := binary.BigEndian.AppendUint32(nil, kindData<<24|uint32(n))
	return transport.WriteBatch(f.Conn, append([][]byte{head}, bufs...))
}

// Read implements net.Conn.
func (f *framed) Read(p []byte) (int, error) {
	for f.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(f.Conn, head[:]); err != nil {
			return 0, err
		}
		n := int(binary.BigEndian.Uint32(head[:]) & 0xffffff)
		switch head[0] {
		case kindFiller:
			if _, err := io.CopyN(io.Discard, f.Conn, int64(n)); err != nil {
				return 0, err
			}
		case kindData:
			f.left = n
		default:
			return 0, fmt.Errorf("a frame of kind %d", head[0])
		}
	}
	n, err := f.Conn.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}
