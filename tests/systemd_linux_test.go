package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnit has systemd check the units that we ship, and say how much they leave open: 10 is a service without a unit's
// care. The gateway's may be at 2, and a little more where its kernel carries packets. The client's is root's, and administers
// the network.
func TestUnit(t *testing.T) {
	for _, u := range []struct{ name, dropIn, threshold string }{{"godwit-gateway.service", "", "20"},
		{"godwit-gateway.service", "godwit-gateway-packets.conf", "30"}, {"godwit.service", "", "35"}} {
		t.Run(u.name+u.dropIn, func(t *testing.T) { checkUnit(t, u.name, u.dropIn, u.threshold) })
	}
}

func checkUnit(t *testing.T, name, dropIn, threshold string) {
	need(t, "systemd-analyze")
	unit, err := os.ReadFile(filepath.Join("../packaging/systemd", name))
	if err != nil {
		t.Fatal(err)
	}
	if dropIn != "" {
		more, err := os.ReadFile(filepath.Join("../packaging/systemd", dropIn))
		if err != nil {
			t.Fatal(err)
		}
		unit = append(append(unit, '\n'), more...)
	}
	// It complains of programs that are not installed.
	text := strings.ReplaceAll(string(unit), "/usr/local/bin/godwit", godwit(t))
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	analyze, _ := lookPath("systemd-analyze")
	if out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command(analyze, "security", "--offline=yes", "--no-pager", "--threshold="+threshold, path).CombinedOutput()
	if strings.Contains(string(out), "unrecognized option") {
		t.Skip("systemd-analyze is older than version 250, and cannot rate a unit that is not loaded")
	}
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
