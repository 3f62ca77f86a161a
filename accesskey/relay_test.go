package accesskey

import (
	"errors"
	"strings"
	"testing"
)

func relayKey() Key {
	k := smallKey()
	k.Endpoints = append(k.Endpoints, Endpoint{Transport: "relay", Host: "relay.example", Port: 8443, Name: "www.example",
		Relay: &Relay{NewSecret([SecretSize]byte(ramp(16, 9, 3))), [32]byte(ramp(32, 80, 7))}},
		Endpoint{Transport: "quic", Host: "2001:db8::7"})
	return k
}

func TestRelay(t *testing.T) {
	k := relayKey()
	text := k.Text()
	if !strings.Contains(text, ",") || !strings.Contains(text, "relay+relay.example:8443/www.example+CQwP") {
		t.Fatal(text)
	}
	got, err := Parse("here it is: <" + text + ">.")
	if err != nil {
		t.Fatal(err)
	}
	r := got.Endpoints[1]
	want := k.Endpoints[1].Relay
	if r.Relay == nil || !r.Relay.Secret.Equal(want.Secret) || r.Relay.Pin != want.Pin || r.Host != "relay.example" || r.Name != "www.example" {
		t.Errorf("%+v", r)
	}
	if got.Endpoints[2].Relay != nil || got.Text() != text {
		t.Errorf("printed again: %s", got.Text())
	}
}

func TestRelayInvalid(t *testing.T) {
	for name, spoil := range map[string]func(*Key){
		"no door":     func(k *Key) { k.Endpoints[1].Relay = nil },
		"no secret":   func(k *Key) { k.Endpoints[1].Relay.Secret = Secret{} },
		"no pin":      func(k *Key) { k.Endpoints[1].Relay.Pin = [32]byte{} },
		"not a relay": func(k *Key) { k.Endpoints[2].Relay = k.Endpoints[1].Relay },
	} {
		k := relayKey()
		spoil(&k)
		if err := k.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := relayKey().Text()
	body, _, _ := strings.Cut(whole, "&c=")
	for name, damage := range map[string]func(string) string{
		"secret cut":  func(s string) string { return strings.Replace(s, "+CQwP", "+QwP", 1) },
		"one part":    func(s string) string { return strings.Replace(s, "+CQwP", "CQwP", 1) },
		"no alphabet": func(s string) string { return strings.Replace(s, "+CQwP", "+C.wP", 1) },
	} {
		if _, err := Parse(sealed(damage(body))); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
