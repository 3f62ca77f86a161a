package peer

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// debian finds a program that comes as a Debian package; programs for administrators are not in everyone's PATH.
func debian(program, pkg string) (path string, err error) {
	if path, err = exec.LookPath(program); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("needs %s: apt-get install %s", program, pkg)
}

// needAll finds several, given as program and package in turn, and names all that are missing.
func needAll(pairs ...string) error {
	var missing, packages []string
	for i := 0; i < len(pairs); i += 2 {
		if _, err := debian(pairs[i], pairs[i+1]); err != nil {
			missing, packages = append(missing, pairs[i]), append(packages, pairs[i+1])
		}
	}
	if missing == nil {
		return nil
	}
	return errors.New("needs " + strings.Join(missing, ", ") + ": apt-get install " + strings.Join(packages, " "))
}

// firstLine is the first line that a program prints, however it ends.
func firstLine(ctx context.Context, path string, args ...string) string {
	out, _ := exec.CommandContext(ctx, path, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}
