package peer

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// secureShell is OpenSSH with dynamic forwarding: `ssh -D` to a sshd of our own, both with keys of their own.
type secureShell struct{}

var sshEntry = Entry{
	Name: "ssh",
	Prepare: func(ctx context.Context, _ *Tools) (Info, error) {
		if err := needAll("ssh", "openssh-client", "ssh-keygen", "openssh-client", "sshd", "openssh-server"); err != nil {
			return Info{}, err
		}
		path, _ := debian("ssh", "openssh-client")
		return Info{Version: firstLine(ctx, path, "-V"), Settings: "ssh -D, Ed25519 keys; SOCKS5 in"}, nil
	},
	Check: func() error {
		_, err := RealUser()
		return err
	},
	New: func(*Tools) Peer { return secureShell{} },
}

const sshPort = 22

// RealUser is the user whom sshd lets in, the one who started all this: inside a user namespace everyone is root. Root in a
// namespace with nobody else is not root enough for sshd, which wants to become others: it gets a name there.
func RealUser() (*user.User, error) {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil, err
	}
	id := "0"
	if f := strings.Fields(string(b)); len(f) == 3 && f[2] == "1" {
		id = f[1]
		if id == "0" {
			return &user.User{Uid: "1000", Gid: "1000", Username: "lab", HomeDir: "/"}, nil
		}
	}
	u, err := user.LookupId(id)
	if err != nil {
		return nil, fmt.Errorf("sshd knows only users with a name: %w", err)
	}
	return u, nil
}

func (secureShell) Proxy() string { return socksAddr }

func (secureShell) Gateway(ctx context.Context, s *Site) (*Process, error) {
	login, err := RealUser()
	if err != nil {
		return nil, err
	}
	keygen, err := debian("ssh-keygen", "openssh-client")
	if err != nil {
		return nil, err
	}
	sshd, err := debian("sshd", "openssh-server")
	if err != nil {
		return nil, err
	}
	dir := s.private("gateway")
	if err := os.MkdirAll(filepath.Join(dir, "sshd"), 0o755); err != nil { // where it shuts its unprivileged part in
		return nil, err
	}
	for _, key := range []string{filepath.Join(dir, "host"), filepath.Join(s.Dir, "user")} {
		if _, err := s.run(ctx, s.Gateway, keygen, "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key); err != nil {
			return nil, err
		}
	}
	public, err := os.ReadFile(filepath.Join(s.Dir, "user.pub"))
	if err != nil {
		return nil, err
	}
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		return nil, err
	}
	if _, err := s.write("known_hosts", append([]byte("lab "), host...)); err != nil {
		return nil, err
	}
	for name, content := range map[string]string{
		"user.pub": string(public),
		// Without PAM sshd refuses an account whose password is locked, as root's may be.
		"shadow": login.Username + ":*:19000:0:99999:7:::\n",
		"passwd": fmt.Sprintf("%s:x:%s:%s::/:/bin/sh\n", login.Username, login.Uid, login.Gid),
		"sshd_config": fmt.Sprintf("ListenAddress %s\nHostKey /run/host\nAuthorizedKeysFile /run/user.pub\nPidFile none\n"+
			"StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n", s.at(sshPort)),
	} {
		if _, err := s.write(filepath.Join("gateway.run", name), []byte(content)); err != nil {
			return nil, err
		}
	}
	if login.Uid != "0" {
		if err := s.Gateway.Sysctl("net.ipv4.ip_unprivileged_port_start", "0"); err != nil {
			return nil, err
		}
	}
	p, err := s.startPrivate(s.Gateway, "gateway", nil, privateRun+" && mount --bind /run/shadow /etc/shadow"+asUser(login),
		sshd, "-D", "-e", "-f", "/run/sshd_config")
	if err != nil {
		return nil, err
	}
	return p, p.listens(ctx, s.Gateway, "tcp", sshPort)
}

// asUser is for startPrivate's setup: sshd as a normal user of a namespace in which nobody else exists cannot become
// someone else, and does not try if it is not root.
func asUser(u *user.User) string {
	if u.Uid == "0" {
		return ""
	}
	return " && mount --bind /run/passwd /etc/passwd && set -- unshare --user --map-user=" + u.Uid + " --map-group=" + u.Gid + ` "$@"`
}

func (secureShell) Client(_ context.Context, s *Site) (*Process, error) {
	login, err := RealUser()
	if err != nil {
		return nil, err
	}
	ssh, err := debian("ssh", "openssh-client")
	if err != nil {
		return nil, err
	}
	return s.start(s.Client, "client", nil, ssh, "-F", "none", "-N", "-D", socksAddr, "-i", filepath.Join(s.Dir, "user"),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "HostKeyAlias=lab", "-o", "ExitOnForwardFailure=yes",
		"-o", "UserKnownHostsFile="+filepath.Join(s.Dir, "known_hosts"), "-p", strconv.Itoa(sshPort),
		"-l", login.Username, s.GatewayAddr.String())
}
