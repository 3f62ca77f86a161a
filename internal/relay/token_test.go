package relay

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func token() Token {
	return Token{Key: Key{1, 2, 3}, Homes: []string{"gateway.example:443", "[2001:db8::1]:8443"}}
}

func TestToken(t *testing.T) {
	text := token().Text()
	got, err := ParseToken("  " + text + "\n")
	if err != nil || got.Key != token().Key || fmt.Sprint(got.Homes) != fmt.Sprint(token().Homes) {
		t.Fatalf("%v, %v", got.Homes, err)
	}
	for name, bad := range map[string]string{
		"empty":        "",
		"an other key": "godwit://x",
		"cut off":      text[:len(text)-3],
		"one letter":   text[:30] + "x" + text[31:],
		"nothing":      tokenStart,
		"no homes":     Token{Key: token().Key}.Text(),
		"a bad home":   Token{Key: token().Key, Homes: []string{"gateway.example"}}.Text(),
		"port 0":       Token{Key: token().Key, Homes: []string{"gateway.example:0"}}.Text(),
		"too long":     tokenStart + strings.Repeat("A", maxToken),
	} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if s := fmt.Sprintf(verb, token()); strings.Contains(s, "1 2 3") || strings.Contains(s, "010203") || strings.Contains(s, "0x1, 0x2") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

// Everything about a relay follows from its key, and nothing leads back or aside.
func TestKeys(t *testing.T) {
	a, b := Key{1}, Key{2}
	if again := (Key{1}); a.Pin() != again.Pin() || a.Pin() == b.Pin() {
		t.Error("the pin does not follow from the key")
	}
	if a.DoorSecret([8]byte{1}) == a.DoorSecret([8]byte{2}) || a.DoorSecret([8]byte{1}) == b.DoorSecret([8]byte{1}) {
		t.Error("two doors have one secret")
	}
}

func FuzzToken(f *testing.F) {
	f.Add(token().Text())
	f.Add(tokenStart)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseToken(s)
		if err != nil {
			return
		}
		again, err := ParseToken(got.Text())
		if err != nil || again.Key != got.Key || fmt.Sprint(again.Homes) != fmt.Sprint(got.Homes) {
			t.Errorf("%q is read as %v and then %v, %v", s, got.Homes, again.Homes, err)
		}
	})
}
