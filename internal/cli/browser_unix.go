//go:build unix

package cli

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// become has a command run as a person, with their screen, and the directory be theirs.
func become(cmd *exec.Cmd, person *user.User, dir string) error {
	cmd.SysProcAttr = detached()
	uid, err := strconv.ParseUint(person.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(person.Gid, 10, 32)
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 || uid == 0 {
		return nil
	}
	groups, err := person.GroupIds()
	if err != nil {
		return err
	}
	cred := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for _, g := range groups {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			cred.Groups = append(cred.Groups, uint32(id))
		}
	}
	cmd.SysProcAttr.Credential = cred
	run := fmt.Sprintf("/run/user/%d", uid)
	cmd.Env = append(cmd.Env, "HOME="+person.HomeDir, "USER="+person.Username, "LOGNAME="+person.Username, "XDG_RUNTIME_DIR="+run,
		"DBUS_SESSION_BUS_ADDRESS=unix:path="+run+"/bus")
	if _, err := os.Stat(filepath.Join(run, "wayland-0")); err == nil && os.Getenv("WAYLAND_DISPLAY") == "" {
		cmd.Env = append(cmd.Env, "WAYLAND_DISPLAY=wayland-0") // which sudo does not keep
	}
	return filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(uid), int(gid))
	})
}

// kill ends a command that become has prepared, and all that it has started.
func kill(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
