package gatewaydir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

// browsersDir holds the signed profiles, each in a file with the name of its family. They are no secret, and whoever may write
// here without running the gateway, such as root, must be able to leave what the gateway can read.
const browsersDir = "browsers"

// browserFamilies are those that there may be profiles of, in the order in which they are listed.
var browserFamilies = []chrome.Family{chrome.FamilyChrome, chrome.FamilyFirefox}

// ErrOlderBrowser is matched when a profile would take the place of one that is as new.
var ErrOlderBrowser = errors.New("clients have one that is as new or newer")

// A Browser is a profile that the gateway offers to its clients.
type Browser struct {
	*chrome.Browser
	File string // the signed profile, which another gateway of the network takes as it is
}

func (d *Dir) browserFile(f chrome.Family) string {
	return filepath.Join(d.Path, browsersDir, string(f))
}

// AddBrowser offers a browser's profile to clients from now on, also those of a gateway that runs. Of one that is not
// signed it makes one that is, dated now; one that is must be signed by the network's directory key.
func (d *Dir) AddBrowser(profile []byte, now time.Time) (*Browser, error) {
	signed := profile
	if !chrome.IsSigned(profile) {
		var err error
		if signed, err = chrome.Sign(profile, d.Secrets.DirectorySigner(), now); err != nil {
			return nil, err
		}
	}
	b, err := chrome.Verify(signed, d.Secrets.DirectoryKey())
	if err != nil {
		return nil, err
	}
	if err := b.Try(); err != nil {
		return nil, err
	}
	file := d.browserFile(b.Family())
	// One that cannot be read is as good as none, and is replaced.
	if old, _ := chrome.Load(b.Family(), d.Secrets.DirectoryKey(), file); !b.Date().After(old.Date()) {
		return nil, fmt.Errorf("profile of %s: %w, of %s", b.Date().Format(time.RFC3339), ErrOlderBrowser, old.Date().Format(time.RFC3339))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return nil, fmt.Errorf("keeping the profile: %w", err)
	}
	if err := os.Chmod(filepath.Dir(file), 0o755); err != nil { // whatever the umask is
		return nil, fmt.Errorf("keeping the profile: %w", err)
	}
	if err := chrome.Save(file, signed, 0o644); err != nil {
		return nil, fmt.Errorf("keeping the profile: %w", err)
	}
	return &Browser{b, file}, nil
}

// Browsers lists the profiles that are offered. Its error says which files are there and are none.
func (d *Dir) Browsers() (all []Browser, err error) {
	var errs []error
	for _, f := range browserFamilies {
		file := d.browserFile(f)
		b, _, err := chrome.Read(file, d.Secrets.DirectoryKey())
		switch {
		case err == nil:
			all = append(all, Browser{b, file})
		case !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%q: %w", file, err))
		}
	}
	return all, errors.Join(errs...)
}

// RemoveBrowser offers no profile of this family any more. It matches fs.ErrNotExist if none was there.
func (d *Dir) RemoveBrowser(f chrome.Family) error {
	for _, known := range browserFamilies {
		if f == known {
			return os.Remove(d.browserFile(f))
		}
	}
	return fmt.Errorf("browser %.20q: %w", f, fs.ErrNotExist)
}

// offer is what a gateway that runs knows of the profiles in its directory: as much as it takes to read each file once. Safe
// for concurrent use.
type offer struct {
	dir *Dir

	mu   sync.Mutex
	held map[chrome.Family]offered
}

type offered struct {
	info   fs.FileInfo // of the file as it was read
	date   time.Time
	signed []byte // nil if it is none
}

// newer is gateway.Config's Browser.
func (o *offer) newer(family string, after time.Time) []byte {
	for _, f := range browserFamilies {
		if string(f) != family {
			continue
		}
		if b := o.look(f); b.signed != nil && b.date.After(after) {
			return b.signed
		}
	}
	return nil
}

func (o *offer) look(f chrome.Family) offered {
	o.mu.Lock()
	defer o.mu.Unlock()
	file := o.dir.browserFile(f)
	info, err := os.Stat(file)
	if err != nil {
		delete(o.held, f)
		return offered{}
	}
	if b, ok := o.held[f]; ok && os.SameFile(b.info, info) && b.info.ModTime().Equal(info.ModTime()) && b.info.Size() == info.Size() {
		return b
	}
	b := offered{info: info}
	browser, signed, err := chrome.Read(file, o.dir.Secrets.DirectoryKey())
	if err == nil && browser.Family() != f {
		err = fmt.Errorf("it is one of %s", browser.Family())
	}
	if err == nil {
		b.date, b.signed = browser.Date(), signed
	} else {
		o.dir.log.Warn("a browser's profile is not offered: godwit gateway browser list", "family", f, "err", err)
	}
	if o.held == nil {
		o.held = make(map[chrome.Family]offered)
	}
	o.held[f] = b
	return b
}
