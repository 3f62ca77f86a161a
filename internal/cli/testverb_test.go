package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/internal/survey"
)

// A key that comes in any of up's ways is tested; nothing is saved, and nothing secret is said.
func TestTest(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	state := t.TempDir()
	file := filepath.Join(t.TempDir(), "key.txt")
	if err := os.WriteFile(file, []byte(w.key), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, _, _ := strings.Cut(strings.TrimPrefix(w.key, "godwit://"), "@")
	for name, tt := range map[string]struct {
		env  map[string]string
		args []string
	}{
		"argument":    {nil, []string{w.key}},
		"file":        {nil, []string{file, "--quick"}},
		"-":           {map[string]string{"stdin": w.key}, []string{"-"}},
		"environment": {map[string]string{"GODWIT_KEY": w.key}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := try(t, tt.env, append([]string{"test", "--state-dir", state}, tt.args...)...).want(t, 0, "https "+w.addr,
				"✓ door", "– device", "--enrol", "Nothing failed")
			if strings.Contains(r.stdout+r.stderr, secret) {
				t.Errorf("it shows the key: %s%s", r.stdout, r.stderr)
			}
		})
	}
	if all, err := fs.Glob(os.DirFS(state), "*"); err != nil || len(all) != 0 {
		t.Errorf("it left %q, %v", all, err)
	}

	r := try(t, nil, "test", w.key, "--state-dir", state, "--json").want(t, 0)
	doc := document[testDoc](t, r, "godwit.test/1")
	if doc.Verdict != survey.Works || len(doc.Endpoints) == 0 || doc.Endpoints[0].Door == nil || !doc.Endpoints[0].Door.Opened ||
		r.stderr != "" || strings.Contains(r.stdout, secret) {
		t.Errorf("%+v: %s%s", doc, r.stdout, r.stderr)
	}
	try(t, nil, "test", "--state-dir", state).want(t, exitUsage, "no access key given")
	try(t, nil, "test", w.key, "--state-dir", state, "--profile", "x", "--url", "http://127.0.0.1").want(t, exitUsage,
		"flag --url", "--enrol")
	try(t, nil, "test", w.key, "--url", "example.com").want(t, exitUsage, "flag --url", "example.com")
	head, _, _ := strings.Cut(w.key, "&")
	try(t, nil, "test", head).want(t, exitFailure, "cut off", "single quotes")
}

// The device of a saved key is shown, also while the tunnel is up, which goes on.
func TestTestSaved(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	w.run(t)
	home := t.TempDir()
	upHere(t, home, w.key).want(t, 0)
	before := status(t, home)
	execute(t, home, "test").want(t, 0, "known, and may in", "the tunnel is up", "It works from here")
	execute(t, home, "test", "--url", "http://127.0.0.1/").want(t, exitUsage, "godwit down --profile default")
	if after := status(t, home); after.LinksLost != before.LinksLost || after.PID != before.PID || after.State != "connected" {
		t.Errorf("the tunnel was %+v and is %+v", before, after)
	}
	execute(t, home, "down").want(t, 0)
	r := execute(t, home, "test", w.key, "--json").want(t, 0)
	e := document[testDoc](t, r, "godwit.test/1").Endpoints[0]
	if e.Door.Device != "saved" || e.Speed == nil || e.Speed.Up <= 0 {
		t.Errorf("%s", r.stdout)
	}
	r = try(t, nil, "device", "list", "--state-dir", w.state, "--json").want(t, 0)
	if all := document[struct{ Devices []deviceDoc }](t, r, "godwit.device.list/1").Devices; len(all) != 1 {
		t.Errorf("devices %+v", all)
	}
}

// The exit code says what kind of trouble there is.
func TestTestFails(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	try(t, nil, "test", w.key).want(t, exitBlocked, "✗ IPv4", "refused", "gateway status", "no way to the gateway")

	other := newGateway(t)
	other.run(t)
	again := func(endpoints ...string) string { // the key of w, to be found elsewhere
		args := []string{"gateway", "init", "--state-dir", w.state, "--json"}
		for _, e := range endpoints {
			args = append(args, "--endpoint", e)
		}
		return document[initDoc](t, try(t, nil, args...).want(t, 0), "godwit.gateway.init/1").Key
	}
	try(t, nil, "test", again(other.addr)).want(t, exitBlocked, "✗ pin", "nothing of the access key was sent", "– door")

	both := document[initDoc](t, try(t, nil, "gateway", "init", "--state-dir", other.state, "--endpoint", other.addr, "--endpoint",
		freePort(t), "--json").want(t, 0), "godwit.gateway.init/1").Key
	try(t, nil, "test", both).want(t, exitPartly, "✓ door", "✗ IPv4", "there is a way", "1 check failed")

	gone := strings.TrimSpace(try(t, nil, "key", "add", "gone", "--state-dir", other.state).want(t, 0).stdout)
	try(t, nil, "key", "revoke", "gone", "--state-dir", other.state).want(t, 0)
	r := try(t, nil, "test", gone, "--json")
	for range 20 { // the gateway asks the database four times a second
		if r.code == exitRefused {
			break
		}
		r = try(t, nil, "test", gone, "--json")
	}
	r.want(t, exitRefused, "the access key was revoked", "does not let this access key in")
}
