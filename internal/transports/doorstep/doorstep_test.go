package doorstep

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

var endpoint = transport.Endpoint{Pins: [][32]byte{{5}}, Opener: transporttest.Key{}}

func step() *Step {
	return New(Config{Door: transporttest.Lock{}, Pin: [32]byte{5}, Secret: [32]byte{1}})
}

// visit is a user's visit of s, up to the request that proves.
func visit(t *testing.T, s *Step, ep transport.Endpoint) (*http.Request, [32]byte) {
	t.Helper()
	h := make(http.Header)
	s.Greet(h)
	name, nonce := Nonce(h)
	if nonce == nil {
		t.Fatalf("no nonce in %v", h)
	}
	cookie, shade := Answer(name, nonce, ep)
	return &http.Request{Header: http.Header{"Cookie": {cookie}}}, shade
}

func opens(s *Step, r *http.Request) bool {
	_, ok := s.Opens(r, true)
	return ok
}

func TestOpens(t *testing.T) {
	s := step()
	r, shade := visit(t, s, endpoint)
	if _, ok := s.Opens(r, false); ok {
		t.Error("another kind of request opens")
	}
	got, ok := s.Opens(r, true)
	if !ok || got != shade {
		t.Fatalf("a right proof: %v, the same shade: %v", ok, got == shade)
	}
	if opens(s, r) {
		t.Error("it opens a second time")
	}
	unproven := endpoint
	unproven.Opener = transporttest.Key{Unproven: true}
	if r, _ := visit(t, s, unproven); opens(s, r) {
		t.Error("a wrong proof opens")
	}
	// The process that takes over knows the nonces, and another gateway does not.
	r, _ = visit(t, s, endpoint)
	if opens(New(Config{Door: transporttest.Lock{}, Secret: [32]byte{2}}), r) || !opens(step(), r) {
		t.Error("the secret does not decide")
	}
	// Cookies of others do not matter, and neither does where they stand.
	r, _ = visit(t, s, endpoint)
	r.Header["Cookie"] = []string{"a=b; theme=dark; " + strings.ReplaceAll(r.Header["Cookie"][0], "; ", "; lang=en; ") + "; z=1"}
	if !opens(s, r) {
		t.Error("other cookies are in the way")
	}
	r, _ = visit(t, s, endpoint)
	r.Header["Cookie"] = strings.Split(r.Header["Cookie"][0], "; ")
	if !opens(s, r) {
		t.Error("two lines of cookies are in the way")
	}
}

func TestAge(t *testing.T) {
	s := step()
	now := time.Now()
	for age, fresh := range map[time.Duration]bool{0: true, life: true, life + 2*time.Second: false, -2 * time.Second: false, 1e6 * time.Hour / 10: false} {
		if s.fresh([NonceLen]byte(s.nonce(now.Add(-age))), now) != fresh {
			t.Errorf("a nonce of %v: fresh is not %v", age, fresh)
		}
	}
	for range 1000 {
		if s.fresh([NonceLen]byte(New(Config{}).nonce(now)), now) {
			t.Error("another gateway's nonce is taken")
		}
	}
}

// What is remembered is bounded, and is forgotten.
func TestSpent(t *testing.T) {
	s, now := step(), time.Now()
	for i := range mostSpent + 10 {
		if taken := s.spend([NonceLen]byte{byte(i), byte(i >> 8), byte(i >> 16)}, now); taken != (i < mostSpent) {
			t.Fatalf("nonce %d is taken: %v", i, taken)
		}
	}
	if !s.spend([NonceLen]byte{0xff}, now.Add(3*life)) || len(s.spent) != 1 {
		t.Errorf("%d are remembered", len(s.spent))
	}
}

func TestWithoutVerifier(t *testing.T) {
	s := New(Config{})
	r, _ := visit(t, s, endpoint)
	if opens(s, r) {
		t.Error("it opens without a door")
	}
	if cookie, _ := Answer("a", make([]byte, NonceLen), transport.Endpoint{Pins: endpoint.Pins}); cookie != "" {
		t.Error("it proves without an opener")
	}
}

func FuzzCookies(f *testing.F) {
	s := step()
	f.Add("a=b; sid=00112233445566778899aabbccddeeff; uid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add("=; ;;=")
	f.Fuzz(func(t *testing.T, line string) {
		if opens(s, &http.Request{Header: http.Header{"Cookie": {line}}}) {
			t.Error("it opens")
		}
		if _, proof := cookies(http.Header{"Cookie": {line}}); len(proof) != transport.ProofLen {
			t.Errorf("a proof of %d bytes", len(proof))
		}
		Nonce(http.Header{"Set-Cookie": {line}})
	})
}
