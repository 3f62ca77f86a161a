package cli

import (
	"os/exec"
	"os/user"
)

func become(*exec.Cmd, *user.User, string) error { return nil }

func kill(cmd *exec.Cmd) { _ = cmd.Process.Kill() }
