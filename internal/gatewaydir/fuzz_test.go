package gatewaydir

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/decoy"
)

// FuzzSettings: whatever the file holds, the error is about settings and nothing panics.
func FuzzSettings(f *testing.F) {
	state := f.TempDir()
	secrets, err := control.InitSecrets(state, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("listen = [\":443\"]\nendpoints = [\"gateway.example:443\"]\n"))
	f.Add([]byte("listen = 5\n[egress]\nallow = [\"10.0.0.0/8\"]\n"))
	f.Add([]byte("unknown = true\n"))
	const good = "listen = [\":443\"]\nendpoints = [\"gateway.example:443\"]\n[website]\n"
	f.Add([]byte(good + "kind = \"directory\"\ndirectory = \"/srv/www\"\n"))
	f.Add([]byte(good + "kind = \"proxy\"\nupstream = \"http://[::1%25lo]:80/x\"\nforwarded_for = true\n"))
	f.Add([]byte(good + "kind = \"empty\"\nupstream = \"https://gateway.example\"\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSettings(b)
		if err != nil && !errors.Is(err, ErrSettings) {
			t.Errorf("%q gave %v", b, err)
		}
		// What passes as a proxy can be one.
		if err == nil && s.Website.Kind == string(decoy.Proxy) {
			if _, err := (&Dir{Settings: s, Path: state, Secrets: secrets}).Website(); err != nil {
				t.Errorf("%q passed, and then there is no website: %v", b, err)
			}
		}
	})
}
