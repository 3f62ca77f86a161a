package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// What clients look like is added, passed on to another gateway, refused where it must be, and removed.
func TestBrowser(t *testing.T) {
	t.Parallel()
	w := newGateway(t)
	const profile = "../transports/https/chrome/chrome.json"
	browser := func(args ...string) ran {
		return try(t, nil, append(append([]string{"gateway", "browser"}, args...), "--state-dir", w.state)...)
	}
	browser("list").want(t, 0, "None is offered")
	browser("remove", "chrome").want(t, exitFailure, `"chrome"`, "browser list")
	browser("add", "nowhere").want(t, exitFailure, "nowhere")
	browser("add").want(t, exitUsage)
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte(`{"family": "lynx"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	browser("add", bad).want(t, exitFailure, "family")

	began := time.Now().Add(-2 * time.Second)
	added := document[browserDoc](t, browser("add", profile, "--json"), "godwit.gateway.browser.add/1")
	if added.Family != "chrome" || added.Signed.Before(began) || added.Program == "" {
		t.Errorf("%+v", added)
	}
	browser("list").want(t, 0, "chrome", added.File)
	browser("add", "../transports/https/chrome/firefox.json").want(t, 0, "firefox")
	list := document[struct{ Browsers []browserDoc }](t, browser("list", "--json"), "godwit.gateway.browser.list/1")
	if len(list.Browsers) != 2 || list.Browsers[0] != added || list.Browsers[1].Family != "firefox" {
		t.Errorf("%+v", list)
	}
	// What is signed already is taken as it is, in a directory of the same network, and is not newer here.
	browser("add", added.File).want(t, exitFailure, "as new or newer")
	other := newGateway(t)
	try(t, nil, "gateway", "browser", "add", added.File, "--state-dir", other.state).want(t, exitFailure, "directory's key")
	signed, err := os.ReadFile(added.File)
	if err != nil {
		t.Fatal(err)
	}
	browser("remove", "chrome").want(t, 0)
	try(t, map[string]string{"stdin": string(signed)}, "gateway", "browser", "add", "-", "--state-dir", w.state).want(t, 0, "chrome")
	if again, err := os.ReadFile(added.File); err != nil || string(again) != string(signed) {
		t.Errorf("what was signed is not kept as it was: %v", err)
	}
	if err := os.WriteFile(added.File, signed[:len(signed)-2], 0o600); err != nil {
		t.Fatal(err)
	}
	browser("list").want(t, exitFailure, "firefox", added.File, "directory's key")
	browser("add", profile).want(t, 0) // takes the place of what is damaged
	browser("remove", "lynx").want(t, exitFailure, `"lynx"`)
}
