package accesskey

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"strconv"
	"strings"
)

const scheme = "godwit://"

var (
	b64 = base64.RawURLEncoding.Strict()
	b32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
)

// Text is the key's whole text form, the secret included, for its holder and nobody else. It is empty for a key that
// Validate refuses. Parse reads it back to the same key with the defaults filled in.
func (k Key) Text() string {
	n, err := k.normal()
	if err != nil {
		return ""
	}
	if t := n.text(); len(t) <= MaxText {
		return t
	}
	return ""
}

// text prints a normal key.
func (k Key) text() string {
	var p [1 + len(ID{}) + SecretSize]byte
	p[0] = k.Version
	copy(p[1:], k.ID[:])
	secret := k.Secret.Reveal()
	copy(p[1+len(k.ID):], secret[:])

	first := k.Endpoints[0]
	q := []string{"pin=" + b64.EncodeToString(k.Pin[:])}
	if k.NextPin != ([32]byte{}) {
		q = append(q, "next="+b64.EncodeToString(k.NextPin[:]))
	}
	q = append(q, "dir="+b64.EncodeToString(k.DirectoryKey))
	if first.Name != "" && first.Name != first.Host {
		q = append(q, "sni="+first.Name)
	}
	var alt []string
	for _, e := range k.Endpoints[1:] {
		alt = append(alt, e.text())
	}
	if len(alt) > 0 {
		q = append(q, "alt="+strings.Join(alt, ","))
	}
	if len(k.Directory) > 0 {
		q = append(q, "at="+strings.Join(k.Directory, ","))
	}
	q = append(q, k.unknown...)

	e := envelope{payload: b64.EncodeToString(p[:]), authority: first.hostPort(), query: strings.Join(q, "&")}
	text := e.covered() + "&c=" + e.want()
	if k.Label != "" {
		text += "#" + escapeLabel(k.Label)
	}
	return text
}

// hostPort is host[:port] as both the authority and a place of alt have it.
func (e Endpoint) hostPort() string {
	h := e.Host
	if strings.Contains(h, ":") {
		h = "[" + h + "]"
	}
	if e.Port != defaultPort {
		h += ":" + strconv.Itoa(int(e.Port))
	}
	return h
}

// text is a place of alt.
func (e Endpoint) text() string {
	s := e.hostPort()
	if e.Transport != defaultTransport {
		s = e.Transport + "+" + s
	}
	if e.Name != "" && e.Name != e.Host {
		s += "/" + e.Name
	}
	if e.Relay != nil {
		secret := e.Relay.Secret.Reveal()
		s += "+" + b64.EncodeToString(secret[:]) + "+" + b64.EncodeToString(e.Relay.Pin[:])
	}
	return s
}

func escapeLabel(s string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; isAlnum(c) || c == '-' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', digits[c>>4], digits[c&15]})
		}
	}
	return b.String()
}

// envelope is what every format has in common.
type envelope struct {
	payload   string
	authority string
	query     string // without c
	sum       string // the characters of c that are there, at most sumLen
	after     string // what follows them
	hasAt     bool   // the "@" was there
	hasC      bool   // the "&c=" was there
}

// sumLen is the number of characters in c.
const sumLen = 4

// covered is what the sum is over. A link that some program normalised (host in another case, the slash before the
// question mark lost) is covered as it was printed.
func (e envelope) covered() string {
	return scheme + e.payload + "@" + lower(e.authority) + "/?" + e.query
}

// want is the sum that c must be.
func (e envelope) want() string {
	h := sha256.Sum256([]byte(e.covered()))
	return b32.EncodeToString(h[:])[:sumLen]
}
