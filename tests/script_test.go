package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs the scenarios of testdata/script: what is typed, what is said, and the exit code, which
// CONTRIBUTING.md promises. In a script
//
//	godwit CODE ARG...
//
// runs the binary and wants that exit code; stdout and stderr then look at what it said. "exec godwit" works too. The
// condition [systemd] holds on a machine that systemd runs, whose services no script may touch.
func TestScript(t *testing.T) {
	bin := godwit(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+env.Getenv("PATH"))
			for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "APPDATA",
				"LOCALAPPDATA", "ProgramData"} {
				env.Setenv(name, filepath.Join(env.WorkDir, "home", name))
			}
			return os.MkdirAll(filepath.Join(env.WorkDir, "home", "HOME"), 0o700)
		},
		Condition: func(name string) (bool, error) {
			if name != "systemd" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			_, err := os.Stat("/run/systemd/system") // sd_booted(3)
			return err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"godwit": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) == 0 {
					ts.Fatalf("usage: godwit CODE [ARG...]")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				var exit *exec.ExitError
				err = ts.Exec(bin, args[1:]...)
				switch said := ts.ReadFile("stderr"); {
				case strings.Contains(said, "\ngoroutine "): // a panic, whose exit code is 2 as well
					ts.Fatalf("godwit crashed")
				case err == nil && want == 0:
				case err == nil:
					ts.Fatalf("godwit ended with 0, want %d", want)
				case !errors.As(err, &exit):
					ts.Fatalf("godwit: %v", err)
				case exit.ExitCode() != want:
					ts.Fatalf("godwit ended with %d, want %d", exit.ExitCode(), want)
				}
			},
		},
	})
}

// TestScriptCode shows that a script with a wrong exit code would fail.
func TestScriptCode(t *testing.T) {
	bin := godwit(t)
	err := exec.Command(bin, "no-such-verb").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Error(fmt.Errorf("godwit no-such-verb: %w, want exit code 2", err))
	}
}
