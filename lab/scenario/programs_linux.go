package scenario

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// program is one that ordinary people run, and the Debian package that has it.
type program struct{ name, pkg string }

var (
	curlProgram     = program{"curl", "curl"}
	chromiumProgram = program{"chromium", "chromium"}
	digProgram      = program{"dig", "dnsutils"}
	sshProgram      = program{"ssh", "openssh-client"}
	scpProgram      = program{"scp", "openssh-client"}
)

func (p program) find() (path string, err error) {
	if path, err = exec.LookPath(p.name); err != nil {
		return "", fmt.Errorf("needs %s: apt-get install %s", p.name, p.pkg)
	}
	return path, nil
}

// command runs a program on a host to its end, or for as long as it may; then it and its helpers are killed.
func (c *country) command(ctx context.Context, on *netns.Host, limit time.Duration, p program, args ...string) (stdout string, err error) {
	path, err := p.find()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env = c.dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + c.dir, "TMPDIR=" + c.dir}
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	// The whole group: a browser is many processes. Some may outlive the first, holding the pipes.
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = group, time.Second
	if err := on.Start(cmd); err != nil {
		return "", err
	}
	err = cmd.Wait()
	_ = group() // there may be nobody left
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // the first process ended well
	case ctx.Err() != nil:
		err = fmt.Errorf("%s: not done in %v", p.name, limit)
	case err != nil:
		err = fmt.Errorf("%s: %w: %s", p.name, err, lastLine(complaint.String()))
	}
	return out.String(), err
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// chromium opens a page in a browser that was never used before, and returns what the page became.
func (c *country) chromium(ctx context.Context, on *netns.Host, url string, args ...string) (dom string, err error) {
	dir, err := os.MkdirTemp(c.dir, "chromium-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	// None of these changes what is sent. Without a sandbox, as it refuses to have one as root.
	args = append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--ignore-certificate-errors",
		"--user-data-dir=" + filepath.Join(dir, "data"), "--dump-dom"}, args...)
	return c.command(ctx, on, chromiumTime, chromiumProgram, append(args, url)...)
}

// chromiumTime is for a browser to start and load a page on a busy machine.
const chromiumTime = 60 * time.Second

// pinned is Chromium's argument for a site's key: over QUIC it minds a certificate that it was told not to.
func pinned(site string) (arg string, err error) {
	cert, err := siteCertificate(site)
	if err != nil {
		return "", err
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return "--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(sum[:]), nil
}
