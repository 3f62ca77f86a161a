// Package doorstep decides, for pipes on HTTP, at a request's blank line whether it is a user's: every visitor is given a
// nonce as an ordinary cookie, and a user's next request brings it back with a proof in another one. Everyone else's
// requests are the website's.
//
//	client                                            gateway
//	  GET /                                     ──>    the website's answer, and
//	                                            <──    Set-Cookie: NAME=nonce (32 hexadecimal digits), or the
//	                                                   website's session cookie, which begins with one
//	  the pipe's own request                    ──>    the proof is right, and the nonce is fresh and was not used
//	  Cookie: NAME=nonce; OTHER=proof (32 characters of base64url)
//
// A nonce is one block of AES-128 under a key that only the gateway has, of seconds since 1970 (32), random (32), zero
// (64): so it is random to everyone else, and the gateway keeps none but those that were used.
package doorstep

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/decoy"
	"github.com/godwit-vpn/godwit/internal/transport"
)

const (
	// NonceLen is the length of a nonce, in bytes.
	NonceLen = aes.BlockSize

	// life is how long a nonce is good: a round trip and a bit, also where one takes seconds.
	life = 30 * time.Second
	// mostSpent bounds what is remembered. Only who proves can fill it; then nobody comes in until life has passed.
	mostSpent = 1 << 16
	// mostCookies is how many of a request's are looked at.
	mostCookies = 32
)

// Names of cookies that are set by servers, and by scripts, of which each gateway has one.
var (
	nonceNames = []string{"session", "sid", "sess", "session_id", "sessionid", "SESSIONID", "SESSID", "ssid", "sess_id",
		"app_session", "web_session", "site_session", "_session_id", "user_session", "ci_session", "visit"}
	proofNames = []string{"uid", "cid", "vid", "did", "visitor", "visitor_id", "client_id", "device_id", "anon_id", "_uid",
		"_cid", "_vid", "tracker", "uuid", "guest", "guest_id"}
)

// names derives those of the gateway whose TLS key has this pin. The gateway does not look at the names that come back.
func names(pin [sha256.Size]byte) (nonce, proof string) {
	sum := sha256.Sum256(append([]byte("doorstep cookies v1\x00"), pin[:]...))
	return nonceNames[int(sum[0])%len(nonceNames)], proofNames[int(sum[1])%len(proofNames)]
}

// Config is what New needs.
type Config struct {
	// Door must be a transport.Verifier, or it never opens.
	Door transport.Door
	// Pin is the hash of the gateway's TLS key.
	Pin [sha256.Size]byte
	// Secret is what the nonces' key follows from, so that the process that takes over knows them; zero makes one up.
	Secret [sha256.Size]byte
	// InSite says that the website's own session cookie is made by Fill: then it is the greeting.
	InSite bool
}

// Step is a gateway's doorstep. Safe for concurrent use.
type Step struct {
	door  transport.Verifier // nil if it cannot verify
	name  string
	block cipher.Block
	site  bool

	mu    sync.Mutex
	spent map[[NonceLen]byte]time.Time
	swept time.Time
}

// New makes a Step.
func New(cfg Config) *Step {
	if cfg.Secret == [sha256.Size]byte{} {
		rand.Read(cfg.Secret[:])
	}
	key := sha256.Sum256(append([]byte("godwit doorstep v1\x00"), cfg.Secret[:]...))
	block, err := aes.NewCipher(key[:16])
	if err != nil {
		panic(err) // for other lengths than this only
	}
	s := &Step{block: block, site: cfg.InSite, spent: make(map[[NonceLen]byte]time.Time)}
	s.door, _ = cfg.Door.(transport.Verifier)
	s.name, _ = names(cfg.Pin)
	return s
}

// Fill makes the random bytes of a website's cookie, which begin with a nonce.
func (s *Step) Fill(b []byte) {
	rand.Read(b)
	copy(b, s.nonce(time.Now()))
}

// GreetSite is Greet for the pages of the website, unless their own cookie greets.
func (s *Step) GreetSite(h http.Header) {
	if !s.site {
		s.Greet(h)
	}
}

// Greet puts a nonce into the header of an answer.
func (s *Step) Greet(h http.Header) {
	h.Add("Set-Cookie", s.name+"="+hex.EncodeToString(s.nonce(time.Now()))+"; Path=/; HttpOnly")
}

func (s *Step) nonce(now time.Time) []byte {
	b := make([]byte, NonceLen)
	binary.BigEndian.PutUint32(b, uint32(now.Unix()))
	rand.Read(b[4:8])
	s.block.Encrypt(b, b)
	return b
}

// fresh reports whether a nonce is one of ours and not too old.
func (s *Step) fresh(nonce [NonceLen]byte, now time.Time) bool {
	var b [NonceLen]byte
	s.block.Decrypt(b[:], nonce[:])
	age := time.Duration(uint32(now.Unix())-binary.BigEndian.Uint32(b[:])) * time.Second // one from the future is very old
	return binary.BigEndian.Uint64(b[8:]) == 0 && age <= life
}

// Opens reports whether a request has a right proof for a fresh nonce, and returns what the door's holders can make of
// that. like says of a request whether it is otherwise one for the pipe; the time does not depend on it. A nonce is taken
// once.
func (s *Step) Opens(r *http.Request, like bool) (shade [32]byte, ok bool) {
	if s.door == nil {
		return shade, false
	}
	nonce, proof := cookies(r.Header)
	now := time.Now()
	fresh := s.fresh(nonce, now)
	right := s.door.Proves(nonce[:], proof)
	if !fresh || !right || !like || !s.spend(nonce, now) {
		return shade, false
	}
	return s.door.Shade(nonce[:]), true
}

// spend takes a nonce, and reports whether it was there to be taken.
func (s *Step) spend(nonce [NonceLen]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.swept) > life {
		s.swept = now
		for n, at := range s.spent {
			if now.Sub(at) > 2*life {
				delete(s.spent, n)
			}
		}
	}
	if _, again := s.spent[nonce]; again || len(s.spent) >= mostSpent {
		return false
	}
	s.spent[nonce] = now
	return true
}

// cookies finds the first cookie that is spelt as a nonce, and the first one behind it that is spelt as a proof. A proof
// is always as long as one, or the time would tell.
func cookies(h http.Header) (nonce [NonceLen]byte, proof []byte) {
	const proofLen = transport.ProofLen / 3 * 4
	found, seen := false, 0
	for _, line := range h["Cookie"] {
		for len(line) > 0 && seen < mostCookies {
			var pair string
			pair, line, _ = strings.Cut(line, "; ")
			_, value, _ := strings.Cut(pair, "=")
			seen++
			switch {
			case !found:
				nonce, found = spelt(value)
			case found && len(value) == proofLen:
				if b, err := base64.RawURLEncoding.Strict().DecodeString(value); err == nil && len(b) == transport.ProofLen { // line breaks do not count
					return nonce, b
				}
			}
		}
	}
	return nonce, make([]byte, transport.ProofLen)
}

// spelt reads a cookie's value as a nonce: one by itself is in hexadecimal digits, and a website's session cookie, which is
// long, begins with one.
func spelt(value string) (nonce [NonceLen]byte, ok bool) {
	const head = (NonceLen + 2) / 3 * 4
	switch n := len(value); {
	case n == 2*NonceLen:
		b, err := hex.DecodeString(value)
		if err != nil {
			return nonce, false
		}
		return [NonceLen]byte(b), true
	case n >= decoy.MinCookieLen && n <= decoy.MaxCookieLen:
		b, err := base64.RawURLEncoding.DecodeString(value[:head])
		if err != nil || len(b) < NonceLen { // line breaks do not count
			return nonce, false
		}
		return [NonceLen]byte(b), true
	}
	return nonce, false
}
