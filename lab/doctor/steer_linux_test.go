package doctor

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/linkmodel"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// Where TLS by the gateway's name is reset, the program dials https first; once its doctor has looked, QUIC, and not https
// beside it.
func TestSteers(t *testing.T) {
	netnstest.Need(t)
	godwit, dir := netnstest.Godwit(t), t.TempDir()
	rules := fmt.Sprintf("[[box.tls-name]]\nnames = [%q]\nthen = { reset = [\"gfw-1\"] }\n", gatewayName)
	path := linkmodel.Direction{Delay: 10 * time.Millisecond, Rate: 100e6, QueueTime: 30 * time.Millisecond}
	w, err := newWorld(t.Context(), &Case{}, "outside", inPath, rules, path, 1, godwit, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	state := filepath.Join(dir, "state")
	// run runs the program where the client is.
	run := func(code int, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(godwit, append(args, "--state-dir", state)...)
		cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "TMPDIR=" + dir}
		var out, complaint bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &complaint
		if err := w.client.Start(cmd); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) || cmd.ProcessState.ExitCode() != code {
			t.Fatalf("%s ended with %d\n%s%s", args[0], cmd.ProcessState.ExitCode(), &out, &complaint)
		}
		return out.Bytes()
	}
	isUp := false
	defer func() {
		if isUp {
			run(0, "down")
		}
	}()
	// up brings the tunnel up and says what was dialled, in order, until there were two links; it stays up.
	up := func() (dials []string) {
		t.Helper()
		wire, err := capture.Start(w.client, "eth0", 0)
		if err != nil {
			t.Fatal(err)
		}
		run(0, "up", w.key.Text(), "--proxy", "127.0.0.1:0")
		isUp = true
		var st client.Status
		for deadline := time.Now().Add(20 * time.Second); len(st.Links) < 2 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if err := json.Unmarshal(run(0, "status", "--json"), &st); err != nil {
				t.Fatal(err)
			}
		}
		dials = dialled(wire.Stop())
		t.Logf("dialled %v: %+v", dials, st.Ways)
		return dials
	}
	forget := func() {
		t.Helper()
		run(0, "down")
		isUp = false
		files, err := filepath.Glob(filepath.Join(state, "profiles", "default", "*", "networks.json"))
		if err != nil || len(files) != 1 {
			t.Fatalf("what is remembered is in %v, %v", files, err)
		}
		if err := os.Remove(files[0]); err != nil {
			t.Fatal(err)
		}
	}
	if dials := up(); len(dials) == 0 || dials[0] != "https" {
		t.Errorf("nobody has looked, and it dials %v", dials)
	}
	forget()
	var doc struct{ Steering *client.Steering }
	if err := json.Unmarshal(run(6, "doctor", "--no-resolvers", "--patience", "1s", "--json"), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Steering == nil || doc.Steering.First.Transport != "quic" {
		t.Fatalf("the dialer makes of it %+v", doc.Steering)
	}
	for _, way := range doc.Steering.Ways {
		if want := map[string]string{"https": "blocked"}[way.Transport]; way.Found != want || way.Failures > 0 || !way.Worked.IsZero() {
			t.Errorf("of %s was found %q, not %q: %+v", way.Transport, way.Found, want, way)
		}
	}
	for _, d := range up() {
		if d != "quic" {
			t.Errorf("after the doctor has looked it dials %s", d)
		}
	}
	forget()
}

// dialled names the connections that a host has begun, in order.
func dialled(frames []capture.Frame) (dials []string) {
	seen := map[uint32]bool{} // protocol and port
	for _, f := range frames {
		if !f.Outgoing || len(f.Data) < 14+20+14 || binary.BigEndian.Uint16(f.Data[12:]) != 0x0800 {
			continue
		}
		ip := f.Data[14:]
		proto, body := ip[9], ip[4*(ip[0]&15):]
		name := ""
		switch {
		case binary.BigEndian.Uint16(body[2:]) != 443:
		case proto == 17:
			name = "quic"
		case proto == 6 && body[13]&0x12 == 2: // SYN, and not ACK
			name = "https"
		}
		if id := uint32(proto)<<16 | uint32(binary.BigEndian.Uint16(body)); name != "" && !seen[id] {
			seen[id] = true
			dials = append(dials, name)
		}
	}
	return dials
}
