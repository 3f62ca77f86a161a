package cli

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// loginBrowser is a browser that was started to log in to a network: with a proxy, and a profile that nobody has used before,
// so that no page of the person's is opened, and nothing of theirs is told.
type loginBrowser struct {
	name    string
	profile string
	cmd     *exec.Cmd
	began   time.Time
	lasted  time.Duration
	done    chan struct{}
}

// The browsers that are looked for, of the two kinds there are.
var (
	chromiums = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "brave-browser", "microsoft-edge"}
	firefoxes = []string{"firefox", "firefox-esr"}
)

var errNoBrowser = errors.New("neither Chromium, Chrome nor Firefox is here")

// startBrowser shows a login page to the person at this machine, whom sudo or pkexec has made root.
func (a *app) startBrowser(way portalDoc) (b *loginBrowser, err error) {
	b = &loginBrowser{done: make(chan struct{})}
	path := ""
	for _, b.name = range slices.Concat(chromiums, firefoxes) {
		if path, err = exec.LookPath(b.name); err == nil {
			break
		}
	}
	if path == "" {
		return nil, errNoBrowser
	}
	person, err := personHere(a.env)
	if err != nil {
		return nil, err
	}
	// In their home, where browsers that are confined, as snaps, may write.
	if b.profile, err = os.MkdirTemp(person.HomeDir, "godwit-login-"); err != nil {
		return nil, err
	}
	args := []string{"--user-data-dir=" + b.profile, "--proxy-server=http://" + way.Proxy, "--no-first-run", "--no-default-browser-check",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-features=HttpsUpgrades", way.URL}
	if slices.Contains(firefoxes, b.name) {
		args = []string{"--no-remote", "--profile", b.profile, way.URL}
		err = os.WriteFile(filepath.Join(b.profile, "user.js"), []byte(firefoxSettings(way.Proxy)), 0o644)
	}
	b.cmd = exec.Command(path, args...)
	b.cmd.Env = os.Environ()
	if err == nil {
		err = become(b.cmd, person, b.profile)
	}
	if err == nil {
		err = b.cmd.Start()
	}
	if err != nil {
		os.RemoveAll(b.profile)
		return nil, err
	}
	b.began = time.Now()
	go func() {
		b.cmd.Wait()
		b.lasted = time.Since(b.began)
		close(b.done)
	}()
	return b, nil
}

// firefoxSettings are those of a profile that uses a proxy for everything, and asks for nothing by itself.
func firefoxSettings(proxy string) string {
	host, port, _ := net.SplitHostPort(proxy)
	var s strings.Builder
	for _, pref := range []string{
		`"network.proxy.type", 1`, `"network.proxy.http", "` + host + `"`, `"network.proxy.http_port", ` + port,
		`"network.proxy.ssl", "` + host + `"`, `"network.proxy.ssl_port", ` + port, `"network.trr.mode", 5`,
		`"network.captive-portal-service.enabled", false`, `"network.connectivity-service.enabled", false`,
		`"app.update.enabled", false`, `"app.normandy.enabled", false`, `"browser.safebrowsing.malware.enabled", false`,
		`"browser.safebrowsing.phishing.enabled", false`, `"browser.shell.checkDefaultBrowser", false`,
		`"browser.aboutwelcome.enabled", false`, `"datareporting.policy.dataSubmissionEnabled", false`,
		`"dom.security.https_only_mode", false`, `"services.settings.server", "data:,"`,
	} {
		fmt.Fprintf(&s, "user_pref(%s);\n", pref)
	}
	return s.String()
}

// ended is closed when the browser has ended; nil without one.
func (b *loginBrowser) ended() <-chan struct{} {
	if b == nil {
		return nil
	}
	return b.done
}

// failed reports whether a browser that has ended was never there for a person to see.
func (b *loginBrowser) failed() bool { return b.lasted < 3*time.Second }

// close ends the browser and forgets its profile.
func (b *loginBrowser) close() {
	kill(b.cmd)
	<-b.done
	os.RemoveAll(b.profile)
}

// personHere is who sits at this machine: the user, or the one who has become root by sudo or pkexec.
func personHere(env func(string) string) (*user.User, error) {
	for _, name := range []string{"SUDO_UID", "PKEXEC_UID"} {
		if uid := env(name); uid != "" {
			return user.LookupId(uid)
		}
	}
	if os.Geteuid() == 0 {
		return nil, errors.New("browsers are not for root: use sudo")
	}
	return user.Current()
}
