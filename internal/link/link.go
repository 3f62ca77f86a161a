// Package link opens links, once for every transport: the door, which tells a user from a stranger, and the proof,
// which tells the gateway which device it is. Both are bound to the one TLS connection they come on, and both come in
// the knock that the transport hides in its first request.
//
//	client                                             gateway
//	  TLS 1.3, the gateway's key checked against the pin
//	  KNOCK  key id (64) | MAC (256) | HELLO    ──>    the MAC is wrong: a stranger
//	         signed by the device key                  who is it, may it in
//	  frames …                                  ──>
//	                                            <──    WELCOME, or REFUSED with a cause
//
// The client does not wait for the answer: its frames follow at once. What follows HELLO in the knock is ignored.
//
// The MAC is HMAC-SHA256 under the access key's door secret over "godwit door v1", a zero byte, and 32 bytes of keying
// material exported under the label EXPORTER-godwit-door. Server randomness is in those, so that a recorded knock is
// worth nothing. A gateway derives the door secret from its door key and the key id and stores nothing per user.
//
// The signature is Ed25519 over "godwit link proof v1", a zero byte, and
//
//	transport length (8) | transport | version (16) | flags (16) | features (64) | session (128) | next (64) |
//	device key (256) | SHA-256 of the server's key (256) | SHA-256 of the certificate (256) |
//	32 bytes exported under EXPORTER-godwit-proof (256)
//
// so that it proves this device, to this gateway, for this session, on this connection and on no other.
//
// On a pipe that somebody else's HTTP server may stand before, a proof goes ahead of all this, over a nonce N that the
// gateway sent:
//
//	key id (64) XOR mask (64) | the first 16 bytes of HMAC-SHA256(door secret, "godwit pipe proof v1\0" ‖ N)
//
// The mask is the beginning of HMAC-SHA256(H, "godwit pipe mask v1\0" ‖ N), with H = SHA-256("godwit holders v1\0" ‖ the
// directory's public key), which is in every access key: so a proof repeats nothing that an onlooker could know again.
// Shade is HMAC-SHA256(H, "godwit pipe shade v1\0" ‖ N).
package link

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/wire"
)

const (
	// DoorLen is the length of the door, in bytes.
	DoorLen = 8 + sha256.Size

	doorLabel  = "EXPORTER-godwit-door"
	proofLabel = "EXPORTER-godwit-proof"
	doorText   = "godwit door v1\x00"
	proofText  = "godwit link proof v1\x00"
)

// Signer is a device's key.
type Signer interface {
	Public() ed25519.PublicKey
	Sign(message []byte) []byte
}

// Knock is what a client shows to open a link. It implements transport.Opener.
type Knock struct {
	Filler
	Transport string   // the transport's name
	KeyID     [8]byte  // the access key's id
	Secret    [16]byte // its door secret
	Device    Signer
	Cert      []byte // nil to enrol
	Session   wire.SessionID
	Flags     uint16 // wire.HelloNew, HelloEnrol, HelloRenew
	Next      uint64
	// Directory is the public key that signs the network's directory of gateways. Without it there is no proof.
	Directory [ed25519.PublicKeySize]byte
}

// Knock implements transport.Opener. The answer comes as the first frame: give it to ParseAnswer.
func (k Knock) Knock(conn transport.Secured) ([]byte, error) {
	mac, err := doorMAC(conn, k.Secret)
	if err != nil {
		return nil, err
	}
	h := wire.Hello{Version: wire.Version, Flags: k.Flags, Session: k.Session, Next: k.Next, Cert: k.Cert}
	copy(h.DeviceKey[:], k.Device.Public())
	proof, err := proofMessage(conn, k.Transport, h)
	if err != nil {
		return nil, err
	}
	copy(h.Signature[:], k.Device.Sign(proof))
	b := append(append([]byte(nil), k.KeyID[:]...), mac...)
	return wire.AppendHello(b, h), nil
}

// Pass is what a client shows to a relay: that it may enter, and nothing of who it is. It implements transport.Opener.
type Pass struct {
	Filler
	KeyID  [8]byte
	Secret [16]byte // of the relay's door
}

// Knock implements transport.Opener.
func (p Pass) Knock(conn transport.Secured) ([]byte, error) {
	mac, err := doorMAC(conn, p.Secret)
	if err != nil {
		return nil, err
	}
	return append(append([]byte(nil), p.KeyID[:]...), mac...), nil
}

// Filler implements transport.Filler with PADDING.
type Filler struct{}

// AppendFiller implements transport.Filler.
func (Filler) AppendFiller(b []byte, n int) []byte { return wire.AppendPadding(b, n) }

// Refusal is a gateway's no, with its cause.
type Refusal struct {
	wire.Refused
}

func (r *Refusal) Error() string {
	return "the gateway refused: " + causes[r.Cause]
}

var causes = map[wire.Cause]string{
	wire.CauseVersion:        "it needs a newer version of Godwit",
	wire.CauseProof:          "the device's proof does not match",
	wire.CauseKeyRevoked:     "the access key was revoked",
	wire.CauseKeyExpired:     "the access key has expired",
	wire.CauseTooManyDevices: "the access key is in use on as many devices as it allows",
	wire.CauseDeviceRevoked:  "this device was revoked",
	wire.CauseCertExpired:    "the device's certificate has expired",
	wire.CauseClock:          "the clocks of this device and the gateway are too far apart",
	wire.CauseSessionUnknown: "it does not know the session any more",
	wire.CauseBusy:           "it is full or about to stop",
	wire.CauseNoControl:      "it cannot enrol devices at the moment",
	wire.CauseKeyUnknown:     "it does not know the access key",
	wire.CauseQuota:          "the access key's data for this month is used up",
}

// ClockSkew is how far this device's clock is ahead of the gateway's.
func (r *Refusal) ClockSkew(now time.Time) time.Duration {
	return now.Sub(time.Unix(int64(r.Clock), 0)).Round(time.Second)
}

// ParseAnswer reads the gateway's first frame: a Welcome, or a *Refusal as the error.
func ParseAnswer(t wire.Type, body []byte) (wire.Welcome, error) {
	switch t {
	case wire.TypeWelcome:
		w, err := wire.ParseWelcome(body)
		if err == nil && w.Version != wire.Version {
			err = fmt.Errorf("%w: the gateway answered with version %d", wire.ErrMalformed, w.Version)
		}
		return w, err
	case wire.TypeRefused:
		r, err := wire.ParseRefused(body)
		if err != nil {
			return wire.Welcome{}, err
		}
		return wire.Welcome{}, &Refusal{r}
	}
	return wire.Welcome{}, fmt.Errorf("%w: type %#x instead of the gateway's answer", wire.ErrMalformed, uint8(t))
}

// Visitor is whoever passed the door.
type Visitor struct {
	KeyID [8]byte
	Hello wire.Hello
	// Proven says that the visitor holds the device key that Hello names.
	Proven bool
}

// Door implements transport.Door.
type Door struct {
	Filler
	// Secret derives an access key's door secret from its id.
	Secret func(keyID [8]byte) [16]byte
	// Directory is as in Knock. Without it no proof is right.
	Directory [ed25519.PublicKeySize]byte
}

// Opens implements transport.Door.
func (d Door) Opens(conn transport.Secured, knock []byte) bool {
	if len(knock) < DoorLen {
		return false
	}
	mac, err := doorMAC(conn, d.Secret([8]byte(knock)))
	return err == nil && hmac.Equal(mac, knock[8:DoorLen])
}

// Accept reads who came from the knock of conn, which has opened the door.
func Accept(conn transport.Conn, name string) (*Visitor, error) {
	r := bytes.NewReader(conn.Knock())
	v := new(Visitor)
	if _, err := io.ReadFull(r, v.KeyID[:]); err != nil {
		return nil, fmt.Errorf("reading the knock: %w", err)
	}
	r.Seek(DoorLen, io.SeekStart)
	t, body, err := wire.ReadFrame(r, wire.MaxHello)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading HELLO: %w", err)
	case t != wire.TypeHello:
		return nil, fmt.Errorf("%w: the knock holds no HELLO", wire.ErrMalformed)
	}
	if v.Hello, err = wire.ParseHello(body); err != nil {
		return nil, err
	}
	proof, err := proofMessage(conn, name, v.Hello)
	if err != nil {
		return nil, err
	}
	v.Proven = ed25519.Verify(v.Hello.DeviceKey[:], proof, v.Hello.Signature[:])
	return v, nil
}

// Refuse tells a visitor why not. The link is closed by the caller.
func Refuse(conn transport.Conn, cause wire.Cause, retry time.Duration) error {
	_, err := conn.Write(wire.AppendRefused(nil, wire.Refused{
		Cause: cause, Retry: uint32(retry / time.Second), Clock: uint64(time.Now().Unix())}))
	return err
}

// Welcome lets a visitor in.
func Welcome(conn transport.Conn, w wire.Welcome) error {
	w.Version, w.Clock = wire.Version, uint64(time.Now().Unix())
	_, err := conn.Write(wire.AppendWelcome(nil, w))
	return err
}

func doorMAC(conn transport.Secured, secret [16]byte) ([]byte, error) {
	ekm, err := conn.Export(doorLabel, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("exporting keying material: %w", err)
	}
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte(doorText))
	m.Write(ekm)
	return m.Sum(nil), nil
}

func proofMessage(conn transport.Secured, name string, h wire.Hello) ([]byte, error) {
	ekm, err := conn.Export(proofLabel, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("exporting keying material: %w", err)
	}
	if len(name) > 255 {
		return nil, fmt.Errorf("transport name of %d bytes", len(name))
	}
	var b bytes.Buffer
	b.WriteString(proofText)
	b.WriteByte(byte(len(name)))
	b.WriteString(name)
	binary.Write(&b, binary.BigEndian, h.Version)
	binary.Write(&b, binary.BigEndian, h.Flags)
	binary.Write(&b, binary.BigEndian, h.Features)
	b.Write(h.Session[:])
	binary.Write(&b, binary.BigEndian, h.Next)
	b.Write(h.DeviceKey[:])
	key, cert := conn.ServerKey(), sha256.Sum256(h.Cert)
	b.Write(key[:])
	b.Write(cert[:])
	b.Write(ekm)
	return b.Bytes(), nil
}
