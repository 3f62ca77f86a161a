package netnstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// EnvGodwit names a variable with the path of the program godwit that is to be tested; without it one is built.
const EnvGodwit = "GODWIT_LAB_BINARY"

// Godwit is the path of the program. What it is built of is in Go's caches: the sandbox has no network.
func Godwit(t testing.TB) string {
	t.Helper()
	path, err := builtGodwit()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var builtGodwit = sync.OnceValues(func() (path string, err error) {
	if path := os.Getenv(EnvGodwit); path != "" {
		return path, nil
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", errors.New("this test does not know what it was built of")
	}
	dir, err := os.MkdirTemp("/run", "built")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "godwit")
	args := []string{"build", "-buildvcs=false", "-o", path}
	if slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race") // what other tests have built is then not built again
	}
	if out, err := exec.Command("go", append(args, info.Main.Path+"/cmd/godwit")...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build godwit: %w: %s", err, out)
	}
	return path, nil
})
