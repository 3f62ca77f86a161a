package gatewaydir

import (
	"errors"
	"testing"
)

// FuzzSettings: whatever the file holds, the error is about settings and nothing panics.
func FuzzSettings(f *testing.F) {
	f.Add([]byte("listen = [\":443\"]\nendpoints = [\"gateway.example:443\"]\n"))
	f.Add([]byte("listen = 5\n[egress]\nallow = [\"10.0.0.0/8\"]\n"))
	f.Add([]byte("unknown = true\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParseSettings(b); err != nil && !errors.Is(err, ErrSettings) {
			t.Errorf("%q gave %v", b, err)
		}
	})
}
