package chrome

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"slices"

	utls "github.com/refraction-networking/utls"
)

// The extensions that this package makes itself (IANA, TLS ExtensionType Values).
const (
	extServerName             Code = 0
	extStatusRequest          Code = 5
	extSupportedGroups        Code = 10
	extECPointFormats         Code = 11
	extSignatureAlgorithms    Code = 13
	extALPN                   Code = 16
	extSCT                    Code = 18
	extExtendedMasterSecret   Code = 23
	extCompressCertificate    Code = 27
	extSessionTicket          Code = 35
	extSupportedVersions      Code = 43
	extPSKKeyExchangeModes    Code = 45
	extKeyShare               Code = 51
	extApplicationSettings    Code = 17613
	extEncryptedClientHello   Code = 65037
	extRenegotiationInfo      Code = 65281
	extPreSharedKey           Code = 41
	extEarlyData              Code = 42
	extCookie                 Code = 44
	extQUICTransportParameter Code = 57
)

// aeadTag is how much longer the payload of encrypted_client_hello is than what it would encrypt.
const aeadTag = 16

// spec makes the ClientHello of one connection, which may resume a session. It is not to be used for another: the engine
// writes that connection's values into it.
func (t *TLS) spec(returning bool) (*utls.ClientHelloSpec, error) {
	exts := make([]utls.TLSExtension, 0, len(t.Extensions)+3)
	for _, e := range t.Extensions {
		if returning && slices.Contains(t.NotReturning, uint16(e.Type)) {
			continue
		}
		ext, err := t.extension(e)
		if err != nil {
			return nil, err
		}
		if ech, ok := ext.(*utls.GREASEEncryptedClientHelloExtension); ok {
			sizes := t.ECHGREASE.Payloads
			if returning && len(t.ECHGREASE.ReturnPayloads) > 0 {
				sizes = t.ECHGREASE.ReturnPayloads
			}
			for _, size := range sizes {
				ech.CandidatePayloadLens = append(ech.CandidatePayloadLens, uint16(size-aeadTag))
			}
		}
		exts = append(exts, ext)
	}
	if t.Shuffled {
		if err := shuffle(exts); err != nil {
			return nil, err
		}
	}
	if t.GREASEEnds {
		exts = append(slices.Insert(exts, 0, utls.TLSExtension(&utls.UtlsGREASEExtension{})), &utls.UtlsGREASEExtension{})
	}
	if returning {
		exts = append(exts, &utls.UtlsPreSharedKeyExtension{})
	}
	return &utls.ClientHelloSpec{
		CipherSuites:       append([]uint16(nil), t.Ciphers...),
		CompressionMethods: []byte{0},
		Extensions:         exts,
	}, nil
}

// oneX25519 has the hybrid share's X25519 key serve alone, too.
func oneX25519(u *utls.UConn) error {
	keys := u.HandshakeState.State13.KeyShareKeys
	for _, e := range u.Extensions {
		shares, ok := e.(*utls.KeyShareExtension)
		if !ok {
			continue
		}
		for i := range shares.KeyShares {
			if shares.KeyShares[i].Group == utls.X25519 {
				if keys == nil || keys.MlkemEcdhe == nil || keys.Ecdhe == nil || keys.Ecdhe.Curve() != keys.MlkemEcdhe.Curve() {
					return errors.New("the engine has no X25519 key to use twice")
				}
				keys.Ecdhe, shares.KeyShares[i].Data = keys.MlkemEcdhe, keys.MlkemEcdhe.PublicKey().Bytes()
				return nil
			}
		}
	}
	return nil
}

// shuffle is BoringSSL's (ssl_setup_extension_permutation): every order is as likely as another. Not
// utls.ShuffleChromeTLSExtensions, which leaves an extension where it was when it draws one of the ends: over some
// hundreds of connections to one gateway that can be counted.
func shuffle(exts []utls.TLSExtension) error {
	for i := len(exts) - 1; i > 0; i-- {
		j, err := random(i + 1)
		if err != nil {
			return err
		}
		exts[i], exts[j] = exts[j], exts[i]
	}
	return nil
}

// random draws one of n numbers.
func random(n int) (int, error) {
	v, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		return 0, err
	}
	return int(v.Int64()), nil
}

// extension makes one extension for one connection.
func (t *TLS) extension(e Extension) (utls.TLSExtension, error) {
	if ext, err := t.known(e.Type); ext != nil || err != nil {
		if len(e.Body) > 0 {
			return nil, fmt.Errorf("tls.extensions: %04x has a body, but is made of other fields", uint16(e.Type))
		}
		return ext, err
	}
	switch e.Type {
	case extPreSharedKey, extEarlyData, extCookie, extQUICTransportParameter:
		return nil, fmt.Errorf("tls.extensions: %04x has no place in a first hello over TCP", uint16(e.Type))
	}
	if utls.CurveID(e.Type)&0x0f0f == grease && byte(e.Type>>8) == byte(e.Type) {
		return nil, fmt.Errorf("tls.extensions: %04x is GREASE, which is always first and last", uint16(e.Type))
	}
	if len(e.Body) == 0 {
		return nil, fmt.Errorf("tls.extensions: %04x is unknown and has no body", uint16(e.Type))
	}
	return &utls.GenericExtension{Id: uint16(e.Type), Data: append([]byte(nil), e.Body...)}, nil
}

// Makes reports whether this package makes the content of an extension, so that a profile has no body for it.
func Makes(number Code) bool {
	ext, err := (&TLS{}).known(number)
	return ext != nil || err != nil
}

// known makes an extension that has a state in the engine, or returns nil.
func (t *TLS) known(number Code) (utls.TLSExtension, error) {
	switch number {
	case extServerName:
		return &utls.SNIExtension{}, nil
	case extStatusRequest:
		return &utls.StatusRequestExtension{}, nil
	case extSupportedGroups:
		return &utls.SupportedCurvesExtension{Curves: convert[utls.CurveID](t.Groups)}, nil
	case extECPointFormats:
		return &utls.SupportedPointsExtension{SupportedPoints: []byte{0}}, nil
	case extSignatureAlgorithms:
		schemes := convert[utls.SignatureScheme](t.SignatureAlgorithms)
		for i, s := range schemes {
			if s != grease {
				continue
			}
			n, err := random(16) // the engine draws GREASE for every other place, but not for this one
			if err != nil {
				return nil, err
			}
			schemes[i] = utls.SignatureScheme(n<<12 | n<<4 | grease)
		}
		return &utls.SignatureAlgorithmsExtension{SupportedSignatureAlgorithms: schemes}, nil
	case extALPN:
		return &utls.ALPNExtension{AlpnProtocols: append([]string(nil), t.ALPN...)}, nil
	case extSCT:
		return &utls.SCTExtension{}, nil
	case extExtendedMasterSecret:
		return &utls.ExtendedMasterSecretExtension{}, nil
	case extCompressCertificate:
		return &utls.UtlsCompressCertExtension{Algorithms: convert[utls.CertCompressionAlgo](t.CertificateCompression)}, nil
	case extSessionTicket:
		return &utls.SessionTicketExtension{}, nil
	case extSupportedVersions:
		return &utls.SupportedVersionsExtension{Versions: append([]uint16(nil), t.Versions...)}, nil
	case extPSKKeyExchangeModes:
		return &utls.PSKKeyExchangeModesExtension{Modes: []byte{utls.PskModeDHE}}, nil
	case extKeyShare:
		var shares []utls.KeyShare
		for _, g := range t.KeyShares {
			share := utls.KeyShare{Group: utls.CurveID(g)}
			if g == grease {
				share.Data = []byte{0}
			}
			shares = append(shares, share)
		}
		return &utls.KeyShareExtension{KeyShares: shares}, nil
	case extApplicationSettings:
		return &utls.ApplicationSettingsExtensionNew{
			SupportedProtocols: append([]string(nil), t.ApplicationSettings...)}, nil
	case extEncryptedClientHello:
		ech := new(utls.GREASEEncryptedClientHelloExtension) // the sizes are spec's
		for _, aead := range t.ECHGREASE.AEADs {
			ech.CandidateCipherSuites = append(ech.CandidateCipherSuites,
				utls.HPKESymmetricCipherSuite{KdfId: t.ECHGREASE.KDF, AeadId: aead})
		}
		return ech, nil
	case extRenegotiationInfo:
		// TLS 1.3 has no renegotiation. The engine refuses exporters to who might do it; the bytes are the same.
		return &utls.RenegotiationInfoExtension{Renegotiation: utls.RenegotiateNever}, nil
	}
	return nil, nil
}

func convert[T ~uint16](codes Codes) []T {
	all := make([]T, 0, len(codes))
	for _, v := range codes {
		all = append(all, T(v))
	}
	return all
}
