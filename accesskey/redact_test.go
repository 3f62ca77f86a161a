package accesskey

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

func TestNothingPrintsTheSecret(t *testing.T) {
	t.Parallel()
	k := fullKey()
	type public struct {
		Key    Key
		Secret Secret
		List   []Key
	}
	type private struct {
		key    Key
		secret Secret
		list   []Key
	}
	// A secret that shows itself in any base.
	plain := k
	plain.Secret = NewSecret([16]byte(bytes.Repeat([]byte{0xa7}, 16)))
	pub := public{k, k.Secret, []Key{k}}
	priv := private{plain, plain.Secret, []Key{plain}}
	for _, verb := range []string{
		"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%O", "%b", "%c", "%U", "%t", "%e", "%p",
	} {
		for _, v := range []any{
			k, &k, k.Secret, &k.Secret, pub, &pub, []any{k, &k}, map[string]Key{"a": k}, []Secret{k.Secret},
		} {
			noSecrets(t, fmt.Sprintf(verb, v))
		}
		for _, v := range []any{priv, &priv, []any{priv}, []*private{&priv}} {
			said := lower(fmt.Sprintf(verb, v))
			for _, shown := range []string{
				"a7a7", "a7 a7", "0xa7, 0xa7", "167 167", "247 247", "0o247 0o247", "10100111 10100111", "§§", "00a7 u+00a7",
			} {
				if strings.Contains(said, shown) {
					t.Errorf("%s of %T shows the secret: %s", verb, v, said)
				}
			}
		}
	}
	var log bytes.Buffer
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))} {
		l.Info("x", "key", k, "pointer", &k, "secret", k.Secret, "in", pub, "id", k.ID)
	}
	noSecrets(t, log.String())
	if !bytes.Contains(log.Bytes(), []byte("key=1011121314151617")) || bytes.Contains(log.Bytes(), []byte("key=access")) {
		t.Errorf("a logged key is not its id: %s", log.String())
	}
	if bytes.Contains(log.Bytes(), []byte(`"key":"access key`)) {
		t.Errorf("a logged key shows its gateway: %s", log.String())
	}
}

func TestKeysPrintAsIDAndGateway(t *testing.T) {
	t.Parallel()
	const want = "access key 1011121314151617 at gate.example:443"
	k := fullKey()
	if got := k.String(); got != want {
		t.Errorf("String = %q", got)
	}
	if got := fmt.Sprintf("%v|%s|%+v|%#v|%d", k, &k, k, k, k); got != want+"|"+want+"|"+want+"|"+want+"|"+want {
		t.Errorf("verbs print %q", got)
	}
	if got := (Key{}).String(); got != "access key 0000000000000000" {
		t.Errorf("an empty key prints as %q", got)
	}
}

func TestKeysAreNotMarshalled(t *testing.T) {
	t.Parallel()
	k := fullKey()
	for name, marshal := range map[string]func(any) ([]byte, error){
		"json": json.Marshal,
		"xml":  xml.Marshal,
		"gob": func(v any) ([]byte, error) {
			var b bytes.Buffer
			err := gob.NewEncoder(&b).Encode(v)
			return b.Bytes(), err
		},
	} {
		for _, v := range []any{k, &k, struct{ Key Key }{k}, k.Secret, struct{ Secret Secret }{k.Secret}} {
			if out, err := marshal(v); err == nil {
				t.Errorf("%s of %T succeeded: %s", name, v, out)
			}
		}
	}
	var in struct{ Key Key }
	if err := json.Unmarshal(fmt.Appendf(nil, `{"Key":%q}`, golden), &in); err != nil || !reflect.DeepEqual(in.Key, k) {
		t.Errorf("reading a key from JSON: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"Key":"godwit://A"}`), &in); err == nil || !reflect.DeepEqual(in.Key, k) {
		t.Errorf("reading a broken key from JSON: %v", err)
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	if reflect.TypeFor[Secret]().Comparable() {
		t.Error("secrets can be compared with ==")
	}
	raw := [16]byte(ramp(16, 5, 3))
	a, b := NewSecret(raw), NewSecret(raw)
	if !a.Equal(b) || a.IsZero() || a.Reveal() != raw {
		t.Error("a secret is not what it was made of")
	}
	for i := range raw {
		other := raw
		other[i] ^= 1
		if a.Equal(NewSecret(other)) {
			t.Errorf("secrets that differ in byte %d are equal", i)
		}
	}
	raw[0] = 99
	if a.Reveal()[0] != 5 {
		t.Error("a secret changed with what it was made of")
	}
	if !(Secret{}).IsZero() || !NewSecret([16]byte{}).IsZero() || a.Equal(Secret{}) {
		t.Error("zero secrets are wrong")
	}
}
