package accesskey

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// golden is a key with every part, as another implementation of doc.go printed it; goldenSmall one with as few as
// possible.
const (
	goldenBody = "godwit://ARAREhMUFRYXICEiIyQlJicoKSorLC0uLw@gate.example/" +
		"?pin=-wIJEBceJSwzOkFIT1ZdZGtyeYCHjpWco6qxuL_GzdQ" +
		"&next=vsPIzdLX3OHm6_D1-v8ECQ4TGB0iJywxNjtARUpPVFk&dir=P0JFSEtOUVRXWl1gY2ZpbG9ydXh7foGEh4qNkJOWmZw" +
		"&sni=www.example&alt=203.0.113.7:8443,quic+[2001:db8::7]/www.example,websocket+cdn.example" +
		"&at=https://a.example/d,https://b.example/x/y?z=1"
	golden      = goldenBody + "&c=pzft#Ann%27s%20phone"
	goldenSmall = "godwit://ARAREhMUFRYXICEiIyQlJicoKSorLC0uLw@203.0.113.7/" +
		"?pin=-wIJEBceJSwzOkFIT1ZdZGtyeYCHjpWco6qxuL_GzdQ&dir=P0JFSEtOUVRXWl1gY2ZpbG9ydXh7foGEh4qNkJOWmZw&c=j7du"
)

// ramp is n bytes that begin with from and grow by step.
func ramp(n int, from, step byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)*step
	}
	return b
}

func smallKey() Key {
	return Key{
		Version:      Format1,
		ID:           ID(ramp(8, 0x10, 1)),
		Secret:       NewSecret([16]byte(ramp(16, 0x20, 1))),
		Pin:          [32]byte(ramp(32, 251, 7)),
		Endpoints:    []Endpoint{{Transport: "https", Host: "203.0.113.7", Port: 443}},
		DirectoryKey: ramp(32, 63, 3),
	}
}

func fullKey() Key {
	k := smallKey()
	k.NextPin = [32]byte(ramp(32, 190, 5))
	k.Endpoints = []Endpoint{
		{Transport: "https", Host: "gate.example", Port: 443, Name: "www.example"},
		{Transport: "https", Host: "203.0.113.7", Port: 8443},
		{Transport: "quic", Host: "2001:db8::7", Port: 443, Name: "www.example"},
		{Transport: "websocket", Host: "cdn.example", Port: 443, Name: "cdn.example"},
	}
	k.Directory = []string{"https://a.example/d", "https://b.example/x/y?z=1"}
	k.Label = "Ann's phone"
	return k
}

// sealed is a body with its c, for keys that Text would not print.
func sealed(body string) string {
	return body + "&c=" + cutEnvelope(strings.TrimPrefix(body, scheme)).want()
}

func mustParse(t *testing.T, text string) Key {
	t.Helper()
	k, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%q) = %v", text, err)
	}
	return k
}

// wantKind checks an error's kind and that nothing in it, nor in its parts, tells what the key is.
func wantKind(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("error %v does not match %v, for %q", err, kind, text)
		return
	}
	var pe *ParseError
	if !errors.As(err, &pe) {
		t.Fatalf("error %T is not a *ParseError", err)
	}
	if pe.Hint == "" && kind != ErrTooNew {
		t.Errorf("%v: no hint", err)
	}
	noSecrets(t, fmt.Sprint(err, pe.Part, pe.Reason, pe.Hint))
}

// noSecrets fails if said holds six characters in a row of the golden payload behind its version and id, or of a hash.
func noSecrets(t *testing.T, said string) {
	t.Helper()
	said = lower(said)
	for _, hidden := range []string{
		"ICEiIyQlJicoKSorLC0uLw", "202122232425262728292a2b2c2d2e2f", "32333435363738394041424344454647",
		"-wIJEBceJSwzOkFIT1ZdZGtyeYCHjpWco6qxuL_GzdQ", "32 33 34 35 36", "0x20, 0x21, 0x22",
	} {
		for i := 0; i+6 <= len(hidden); i++ {
			if strings.Contains(said, lower(hidden[i:i+6])) {
				t.Fatalf("%q shows %q", said, hidden[i:i+6])
			}
		}
	}
}
