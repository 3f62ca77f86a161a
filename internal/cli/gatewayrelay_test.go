package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/godwit-vpn/godwit/accesskey"
)

// A token makes a relay of another directory, and access keys name it, until it is removed.
func TestRelay(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	show := func() accesskey.Key {
		t.Helper()
		k, err := accesskey.Parse(try(t, nil, "key", "show", "first", "--state-dir", w.state).want(t, 0).stdout)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	try(t, nil, "gateway", "relay", "list", "--state-dir", w.state).want(t, 0, "no relays")
	try(t, nil, "gateway", "relay", "add", "home", "--state-dir", w.state).want(t, exitUsage, "flag --endpoint")
	try(t, nil, "gateway", "relay", "add", "Home!", "--endpoint", "relay.example", "--state-dir", w.state).
		want(t, exitConfig, "relays[0].name", "lower-case")
	before := len(show().Endpoints)
	added := try(t, nil, "gateway", "relay", "add", "home", "--endpoint", "relay.example", "--state-dir", w.state).
		want(t, 0, "godwit-relay-", "init --endpoint relay.example --relay -")
	token := strings.TrimSpace(added.stdout)
	try(t, nil, "gateway", "relay", "list", "--state-dir", w.state).want(t, 0, "home", "relay.example")
	key := show()
	if len(key.Endpoints) != before+1 || key.Endpoints[before].Relay == nil || key.Endpoints[before].Host != "relay.example" {
		t.Fatalf("the access key's endpoints: %+v", key.Endpoints)
	}
	moved := try(t, nil, "gateway", "relay", "add", "home", "--endpoint", "other.example:8443/site.example", "--state-dir", w.state).want(t, 0)
	if strings.TrimSpace(moved.stdout) != token {
		t.Error("a relay that moves needs another token")
	}

	dir := filepath.Join(t.TempDir(), "relay")
	try(t, nil, "gateway", "init", "--relay", token[:40], "--state-dir", dir).want(t, exitUsage, "flag --relay", "damaged")
	try(t, nil, "gateway", "init", "--relay", "nowhere", "--state-dir", dir).want(t, 1, "flag --relay", "nowhere")
	try(t, map[string]string{"stdin": token + "\n"}, "gateway", "init", "--relay", "-", "--endpoint", "relay.example",
		"--state-dir", dir).want(t, 0, "A relay is made", "forwards to", "key show NAME")
	doc := document[initDoc](t, try(t, nil, "gateway", "init", "--relay", token, "--state-dir", dir, "--json"), "godwit.gateway.init/1")
	if doc.Created || len(doc.ForwardsTo) == 0 || doc.Key != "" {
		t.Errorf("again: %+v", doc)
	}
	try(t, nil, "gateway", "init", "--relay", token, "--state-dir", w.state).want(t, 1, "another gateway's")

	try(t, nil, "gateway", "relay", "remove", "nobody", "--state-dir", w.state).want(t, 1, "no such relay")
	try(t, nil, "gateway", "relay", "remove", "home", "--state-dir", w.state).want(t, 0)
	if n := len(show().Endpoints); n != before {
		t.Errorf("%d endpoints after the relay was removed", n)
	}
}
