package gatewaydir

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// A gateway that runs offers what is in its directory now, to those who have something older, and nothing that it could not
// vouch for.
func TestOffer(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d, _, err := Init(t.Context(), t.TempDir(), []string{"127.0.0.1:443"}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	o := &offer{dir: d}
	if b := o.newer("chrome", time.Time{}); b != nil {
		t.Errorf("offers %q", b)
	}
	profile, err := os.ReadFile("../transports/https/chrome/chrome.json")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Second)
	for i := range 2 {
		at := now.AddDate(0, 0, i)
		added, err := d.AddBrowser(profile, at)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // read, and held
			got := o.newer("chrome", at.Add(-time.Second))
			if b, err := chrome.Verify(got, d.Secrets.DirectoryKey()); err != nil || !b.Date().Equal(at) {
				t.Fatalf("offers %v, %v", b, err)
			}
		}
		if o.newer("chrome", at) != nil || o.newer("firefox", time.Time{}) != nil || o.newer("../chrome", time.Time{}) != nil {
			t.Error("offers what was not asked for")
		}
		if _, err := d.AddBrowser(profile, at); !errors.Is(err, ErrOlderBrowser) {
			t.Errorf("the same again: %v", err)
		}
		if _, err := d.AddBrowser(profile, at.AddDate(0, 0, -1)); !errors.Is(err, ErrOlderBrowser) {
			t.Errorf("an older one: %v", err)
		}
		if info, err := os.Stat(added.File); err != nil || info.Mode().Perm()&0o444 == 0 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if log.Len() > 0 {
		t.Errorf("said %s", &log)
	}
	signed := o.newer("chrome", now)
	firefox := d.browserFile(chrome.FamilyFirefox)
	if err := os.WriteFile(firefox, signed, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if b := o.newer("firefox", now); b != nil || bytes.Count(log.Bytes(), []byte("\n")) != 1 {
			t.Errorf("another family's: %q, said %s", b, &log)
		}
	}
	if err := d.RemoveBrowser(chrome.FamilyChrome); err != nil {
		t.Fatal(err)
	}
	if o.newer("chrome", now) != nil {
		t.Error("offers what was removed")
	}
	if _, err := d.AddBrowser(append(bytes.Clone(signed), ' '), now); err == nil {
		t.Error("took what is not signed as it says")
	}
}
