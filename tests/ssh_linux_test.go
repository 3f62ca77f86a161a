package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

const sshPort = "22022"

// sshd runs a real sshd in the world, and returns how to reach it through the proxy: the arguments that ssh and scp
// share, and whom to log in as.
func (w *world) sshd() (args []string, login string) {
	w.t.Helper()
	uid, _ := outsideIDs()
	who, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		w.t.Skipf("needs to know who runs the tests, to let them log in: %v", err)
	}
	for _, name := range []string{"host", "user"} {
		w.world.run(w.t, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", filepath.Join(w.dir, name))
	}
	files := w.world.files
	if uid == 0 {
		// Without PAM sshd refuses an account whose password is locked, as root's may be.
		files = map[string]string{"/etc/shadow": w.write("shadow", "root:*:19000:0:99999:7:::\n")}
		w.world.run(w.t, "", "mkdir", "-p", "/run/sshd")
	}
	config := w.write("sshd_config", fmt.Sprintf(`
ListenAddress %s
HostKey %s/host
AuthorizedKeysFile %s/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
`, net.JoinHostPort(webAddr, sshPort), w.dir, w.dir))
	p := w.start("sshd", w.world.commandFor(entry{Net: w.world.file(), Files: files, User: true},
		"sshd", "-D", "-e", "-f", config))
	w.eventually("sshd listens", p, 10*time.Second, func() error {
		conn, err := w.world.dial(net.JoinHostPort(webAddr, sshPort))
		if err == nil {
			_ = conn.Close()
		}
		return err
	})
	known, err := os.ReadFile(filepath.Join(w.dir, "host.pub"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("known_hosts", "e2e "+string(known))
	return []string{"-F", "none", "-i", filepath.Join(w.dir, "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-o", "UserKnownHostsFile=" + filepath.Join(w.dir, "known_hosts"), "-o", "HostKeyAlias=e2e",
		"-o", "ProxyCommand=nc -X 5 -x " + proxyAddr + " %h %p",
		"-o", "Port=" + sshPort}, who.Username
}

// TestSSH logs in, pipes, and copies files with the programs that people use, through the SOCKS port.
func TestSSH(t *testing.T) {
	need(t, "ssh", "scp", "sshd", "nc")
	if help, _ := exec.Command("nc", "-h").CombinedOutput(); !bytes.Contains(help, []byte("-X")) {
		t.Skip("needs an nc that speaks SOCKS: apt-get install netcat-openbsd")
	}
	w := up(t)
	args, login := w.sshd()

	t.Run("exit code", func(t *testing.T) {
		code, out := run(t, w.client.command("ssh", append(args, login+"@site.test", "echo here; exit 7")...))
		if code != 7 || out != "here\n" {
			t.Errorf("ssh ended with %d and %q, want 7 and %q", code, out, "here\n")
		}
	})
	t.Run("pipe there and back", func(t *testing.T) {
		cmd := w.client.command("ssh", append(args, login+"@"+webAddr, "cat")...)
		const size = 3_000_000
		file := filepath.Join(t.TempDir(), "sent")
		contentFile(t, file, "pipe", size)
		in, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = in.Close() }()
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stderr = in, &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("ssh: %v\n%s", err, &stderr)
		}
		sum := sha256.Sum256(out)
		if got, want := hex.EncodeToString(sum[:]), sumOf(t, "pipe", size); got != want {
			t.Errorf("%d bytes came back with SHA-256 %s, want %s", len(out), got, want)
		}
	})
	t.Run("scp", func(t *testing.T) {
		const size = 5_000_000
		dir := t.TempDir()
		first, there, back := filepath.Join(dir, "first"), filepath.Join(dir, "there"), filepath.Join(dir, "back")
		contentFile(t, first, "scp", size)
		for _, way := range [][2]string{{first, login + "@site.test:" + there}, {login + "@site.test:" + there, back}} {
			if code, out := run(t, w.client.command("scp", append(args, "-q", way[0], way[1])...)); code != 0 {
				t.Fatalf("scp %s %s ended with %d: %s", way[0], way[1], code, out)
			}
		}
		if got, want := sumFile(t, back), sumOf(t, "scp", size); got != want {
			t.Errorf("the file came back with SHA-256 %s, want %s", got, want)
		}
	})
}
