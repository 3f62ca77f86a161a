package quic

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"unsafe"

	utls "github.com/metacubex/utls"
	quicgo "github.com/sagernet/quic-go"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// hello is the TLS engine of one connection of a client.
//
// The library imitates Chrome's packets, but keeps its TLS engine to itself: it can neither be given today's ClientHello
// nor be asked for keying material. So it gets an engine of ours, between the moment a connection is made and the one it
// starts. ECN is turned off there, too. That is a reach into a library that offers no handle: it is done here and nowhere else, only to connections
// that ask for it, and if another version of the library is laid out otherwise, dialling fails and says so.
type hello struct {
	name    string
	version quicgo.Version
	pins    [][sha256.Size]byte

	engine    *utls.UQUICConn
	err       error
	heard     bool // the server's certificate came
	serverKey [sha256.Size]byte
}

type helloKey struct{}

// context marks a dial as one that wants h.
func (h *hello) context(ctx context.Context) context.Context {
	return context.WithValue(ctx, helloKey{}, h)
}

// newClientConnection is the library's variable. The interfaces that it takes are not exported; they are only passed on.
//
//go:linkname newClientConnection github.com/sagernet/quic-go.newClientConnection
var newClientConnection func(ctx context.Context, conn, runner any, dst, src quicgo.ConnectionID,
	ids quicgo.ConnectionIDGenerator, resetter unsafe.Pointer, conf *quicgo.Config, tlsConf *tls.Config,
	number int64, early, negotiated bool, trace, logger any, v quicgo.Version) (*wrappedConnection, error)

// wrappedConnection is the library's type of that name.
type wrappedConnection struct {
	_ unsafe.Pointer
	*quicgo.Conn
}

func init() {
	theirs := newClientConnection
	newClientConnection = func(ctx context.Context, conn, runner any, dst, src quicgo.ConnectionID,
		ids quicgo.ConnectionIDGenerator, resetter unsafe.Pointer, conf *quicgo.Config, tlsConf *tls.Config,
		number int64, early, negotiated bool, trace, logger any, v quicgo.Version) (*wrappedConnection, error) {
		c, err := theirs(ctx, conn, runner, dst, src, ids, resetter, conf, tlsConf, number, early, negotiated, trace, logger, v)
		if h, ok := ctx.Value(helloKey{}).(*hello); ok && err == nil {
			err = h.install(c.Conn)
		}
		return c, err
	}
}

var errLayout = errors.New("the QUIC library is not laid out as this program expects: build it with the versions in go.mod")

// install has the connection use an engine with our hello.
func (h *hello) install(c *quicgo.Conn) error {
	adapter := inside(inside(reflect.ValueOf(c), "cryptoStreamHandler"), "conn")
	engine, spec := inside(adapter, "conn"), inside(adapter, "spec")
	if !is[*utls.UQUICConn](engine) || !is[*utls.ClientHelloSpec](spec) {
		return errLayout
	}
	ours, err := h.spec((*utls.ClientHelloSpec)(spec.UnsafePointer()))
	if err != nil {
		return err
	}
	u := utls.UQUICClient(&utls.QUICConfig{TLSConfig: h.config()}, utls.HelloCustom)
	if err := u.ApplyPreset(ours); err != nil {
		return fmt.Errorf("making a hello: %w", err)
	}
	u.SetTransportParameters([]byte{}) // what is sent is what the hello has of them
	set(engine, u)
	set(spec, ours)
	h.engine = u
	return noECN(c)
}

// noECN has the connection send packets without the mark that they understand ECN: the library's have it, for who looks
// at IP's header to see, Chrome's have not.
func noECN(c *quicgo.Conn) error {
	sent := inside(reflect.ValueOf(c), "sentPacketHandler")
	enabled, tracker := inside(sent, "enableECN"), inside(sent, "ecnTracker")
	if !is[bool](enabled) || !tracker.IsValid() || tracker.Kind() != reflect.Interface {
		return errLayout
	}
	set(enabled, false)
	reflect.NewAt(tracker.Type(), tracker.Addr().UnsafePointer()).Elem().SetZero()
	return nil
}

func is[T any](v reflect.Value) bool { return v.IsValid() && v.Type() == reflect.TypeFor[T]() }

func set[T any](field reflect.Value, v T) { *(*T)(field.Addr().UnsafePointer()) = v }

// inside is a field of what v points to, perhaps as an interface; not valid if there is none.
func inside(v reflect.Value, field string) reflect.Value {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.Elem().FieldByName(field)
}

// config is how the engine sees to it that it talks to the gateway.
func (h *hello) config() *utls.Config {
	return &utls.Config{
		ServerName: h.name,
		NextProtos: []string{nextProto},
		MinVersion: utls.VersionTLS13,
		MaxVersion: utls.VersionTLS13,
		// What a browser sends on a first visit has no trace of another one.
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // the pin takes the place of the CAs
		VerifyConnection: func(s utls.ConnectionState) error {
			h.heard = true
			h.serverKey, h.err = transport.CheckPin(h.pins, s.PeerCertificates)
			return h.err
		},
	}
}

// export is what transport.Secured asks for.
func (h *hello) export(label string, context []byte, n int) ([]byte, error) {
	state := h.engine.ConnectionState()
	return state.ExportKeyingMaterial(label, context, n)
}

// postQuantum reports whether the keys are those of X25519MLKEM768.
func (h *hello) postQuantum() bool {
	group := reflect.ValueOf(h.engine.ConnectionState()).FieldByName("testingOnlyCurveID")
	return group.IsValid() && group.CanUint() && group.Uint() == uint64(utls.X25519MLKEM768)
}

// spec makes the hello of one connection: as the library's, which has no extension for trust anchors, and in an order of
// which each is as likely as another, as BoringSSL has it.
func (h *hello) spec(theirs *utls.ClientHelloSpec) (*utls.ClientHelloSpec, error) {
	at := slices.IndexFunc(theirs.Extensions, func(e utls.TLSExtension) bool {
		_, ok := e.(*utls.QUICTransportParametersExtension)
		return ok
	})
	if at < 0 {
		return nil, errLayout
	}
	parameters := theirs.Extensions[at].(*utls.QUICTransportParametersExtension)
	h.claim(parameters.TransportParameters)
	anchors := chrome.ExtensionBody(trustAnchors)
	if len(anchors) == 0 {
		return nil, errors.New("the profile of Chrome has no trust anchors")
	}
	exts := []utls.TLSExtension{
		&utls.SNIExtension{},
		&utls.SupportedCurvesExtension{Curves: []utls.CurveID{utls.X25519MLKEM768, utls.X25519, utls.CurveP256, utls.CurveP384}},
		&utls.SignatureAlgorithmsExtension{SupportedSignatureAlgorithms: []utls.SignatureScheme{
			utls.ECDSAWithP256AndSHA256, utls.PSSWithSHA256, utls.PKCS1WithSHA256, utls.ECDSAWithP384AndSHA384,
			utls.PSSWithSHA384, utls.PKCS1WithSHA384, utls.PSSWithSHA512, utls.PKCS1WithSHA512, utls.PKCS1WithSHA1,
		}},
		&utls.ALPNExtension{AlpnProtocols: []string{nextProto}},
		&utls.UtlsCompressCertExtension{Algorithms: []utls.CertCompressionAlgo{utls.CertCompressionBrotli}},
		&utls.SupportedVersionsExtension{Versions: []uint16{utls.VersionTLS13}},
		&utls.PSKKeyExchangeModesExtension{Modes: []uint8{utls.PskModeDHE}},
		&utls.KeyShareExtension{KeyShares: []utls.KeyShare{{Group: utls.X25519MLKEM768}, {Group: utls.X25519}}},
		&utls.QUICTransportParametersExtension{TransportParameters: parameters.TransportParameters},
		&utls.ApplicationSettingsExtensionNew{SupportedProtocols: []string{nextProto}},
		&utls.GenericExtension{Id: uint16(trustAnchors), Data: anchors},
		utls.BoringGREASEECH(),
	}
	for i := len(exts) - 1; i > 0; i-- {
		j, err := rand.Int(rand.Reader, big.NewInt(int64(i+1)))
		if err != nil {
			return nil, err
		}
		exts[i], exts[j.Int64()] = exts[j.Int64()], exts[i]
	}
	return &utls.ClientHelloSpec{
		CipherSuites:       []uint16{utls.TLS_AES_128_GCM_SHA256, utls.TLS_AES_256_GCM_SHA384, utls.TLS_CHACHA20_POLY1305_SHA256},
		CompressionMethods: []byte{0},
		Extensions:         exts,
	}, nil
}

const trustAnchors chrome.Code = 0xca34

const versionInformation = 0x11 // RFC 9368, section 3

// claim has the transport parameters name the version that is spoken: the library's name version 1.
func (h *hello) claim(parameters utls.TransportParameters) {
	for _, p := range parameters {
		if fake, ok := p.(*utls.FakeQUICTransportParameter); ok && fake.Id == versionInformation {
			for at := 0; at+4 <= len(fake.Val); at += 4 {
				if v := fake.Val[at:]; binary.BigEndian.Uint32(v) == uint32(quicgo.Version1) {
					binary.BigEndian.PutUint32(v, uint32(h.version))
				}
			}
		}
	}
}
