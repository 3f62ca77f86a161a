package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRenewal has a gateway that is in use for longer than it would have to be idle, and then one that cannot be started
// anew: in both cases the process that served goes on.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := up(t)
	first, err := w.gatewayPID()
	if err != nil {
		t.Fatal(err)
	}
	const longer = 40 * time.Second
	serves := func(when string) {
		t.Helper()
		if pid, err := w.gatewayPID(); pid != first {
			t.Errorf("%s process %d serves (%v), want %d", when, pid, err, first)
		}
	}
	time.Sleep(longer)
	serves("with a session that does nothing")

	settings := filepath.Join(w.gatewayDir(), "gateway.toml")
	text, err := os.ReadFile(settings)
	if err == nil {
		err = os.WriteFile(settings, append([]byte("no_such_field = 1\n"), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if code, out := w.clientCommand("down"); code != 0 {
		t.Fatalf("down ended with %d: %s", code, out)
	}
	time.Sleep(longer)
	serves("with settings that are wrong")
	said, _ := os.ReadFile(w.gatewayProcess.log)
	if n := bytes.Count(said, []byte("no_such_field")); n != 1 {
		t.Errorf("that the settings are wrong was said %d times:\n%s", n, said)
	}
	w.clientProcess = w.startClient(w.key)
	if err := w.hello(); err != nil {
		t.Error(err)
	}
}
