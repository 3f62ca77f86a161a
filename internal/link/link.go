// Package link opens links, once for every transport: the door, which tells a user from a stranger, and the proof,
// which tells the gateway which device it is. Both are bound to the one TLS connection they come on.
//
//	client                                             gateway
//	  TLS 1.3, the gateway's key checked against the pin
//	  DOOR   key id (64) | MAC (256)            ──>    anything else: a stranger
//	  HELLO  signed by the device key           ──>    who is it, may it in
//	  frames …                                  ──>
//	                                            <──    WELCOME, or REFUSED with a cause
//
// The client does not wait for the answer: its frames follow at once.
//
// The MAC is HMAC-SHA256 under the access key's door secret over "godwit door v1", a zero byte, and 32 bytes of keying
// material exported under the label EXPORTER-godwit-door. Server randomness is in those, so that a recorded door is
// worth nothing. A gateway derives the door secret from its door key and the key id and stores nothing per user.
//
// The signature is Ed25519 over "godwit link proof v1", a zero byte, and
//
//	transport length (8) | transport | version (16) | flags (16) | features (64) | session (128) | next (64) |
//	device key (256) | SHA-256 of the server's key (256) | SHA-256 of the certificate (256) |
//	32 bytes exported under EXPORTER-godwit-proof (256)
//
// so that it proves this device, to this gateway, for this session, on this connection and on no other.
package link

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
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

// ErrStranger is returned by Accept for whoever does not pass the door.
var ErrStranger = errors.New("the door does not open")

// Signer is a device's key.
type Signer interface {
	Public() ed25519.PublicKey
	Sign(message []byte) []byte
}

// Knock is what a client shows to open a link.
type Knock struct {
	Transport string   // the transport's name
	KeyID     [8]byte  // the access key's id
	Secret    [16]byte // its door secret
	Device    Signer
	Cert      []byte // nil to enrol
	Session   wire.SessionID
	Flags     uint16 // wire.HelloNew, HelloEnrol, HelloRenew
	Next      uint64
}

// Open writes the door and HELLO to conn. The answer comes as the first frame: give it to ParseAnswer.
func Open(conn transport.Conn, k Knock) error {
	mac, err := doorMAC(conn, k.Secret)
	if err != nil {
		return err
	}
	h := wire.Hello{Version: wire.Version, Flags: k.Flags, Session: k.Session, Next: k.Next, Cert: k.Cert}
	copy(h.DeviceKey[:], k.Device.Public())
	proof, err := proofMessage(conn, k.Transport, h)
	if err != nil {
		return err
	}
	copy(h.Signature[:], k.Device.Sign(proof))
	b := append(append([]byte(nil), k.KeyID[:]...), mac...)
	_, err = conn.Write(wire.AppendHello(b, h))
	return err
}

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

// Accept reads the door and HELLO from conn, which has a deadline. secret derives an access key's door secret. It reads
// not one byte more than those. ErrStranger means that the door did not open, and that nothing was answered.
func Accept(conn transport.Conn, name string, secret func(keyID [8]byte) [16]byte) (*Visitor, error) {
	var door [DoorLen]byte
	if _, err := io.ReadFull(conn, door[:]); err != nil {
		return nil, ErrStranger
	}
	v := &Visitor{KeyID: [8]byte(door[:8])}
	mac, err := doorMAC(conn, secret(v.KeyID))
	if err != nil || !hmac.Equal(mac, door[8:]) {
		return nil, ErrStranger
	}
	t, body, err := wire.ReadFrame(conn, wire.MaxHello)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading HELLO: %w", err)
	case t != wire.TypeHello:
		return nil, fmt.Errorf("%w: the first frame is not a HELLO", wire.ErrMalformed)
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

func doorMAC(conn transport.Conn, secret [16]byte) ([]byte, error) {
	ekm, err := conn.Export(doorLabel, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("exporting keying material: %w", err)
	}
	m := hmac.New(sha256.New, secret[:])
	m.Write([]byte(doorText))
	m.Write(ekm)
	return m.Sum(nil), nil
}

func proofMessage(conn transport.Conn, name string, h wire.Hello) ([]byte, error) {
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
