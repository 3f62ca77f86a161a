package peer

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Tools are the peers' programs. They are built with the Go command from the module proxy and kept in Dir.
type Tools struct {
	Dir    string
	Godwit string // path of the godwit program; empty if there is none
	// Offline only takes what is there, built with whichever Go: nothing can be fetched inside a sandbox.
	Offline bool
	Log     *slog.Logger
}

// DefaultToolsDir is in the user's cache.
func DefaultToolsDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "godwit-bench", "bin"), nil
}

// program is something `go install` can make.
type program struct {
	name, path, module, version, tags string
}

func (t *Tools) path(p program) string { return filepath.Join(t.Dir, p.name) }

// install makes sure that exactly this version is there, built with the Go that built this program, so that no peer has
// the better compiler.
func (t *Tools) install(ctx context.Context, p program) (version string, err error) {
	if t.Offline {
		version, err := builtAs(t.path(p), p, "")
		if err != nil {
			err = fmt.Errorf("needs %s %s, which is not built yet (go run ./bench/cmd/bench peers): %w", p.name, p.version, err)
		}
		return version, err
	}
	if v, err := builtAs(t.path(p), p, runtime.Version()); err == nil {
		return v, err
	}
	t.Log.Info("building a peer, this takes a while", "program", p.name, "version", p.version)
	if err := os.MkdirAll(t.Dir, 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "install", "-tags", p.tags, p.path+"@"+p.version)
	cmd.Dir = t.Dir // not inside any module
	cmd.Env = append(os.Environ(), "GOBIN="+t.Dir, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0",
		"GOTOOLCHAIN="+runtime.Version()+"+auto")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		last := strings.Split(strings.TrimSpace(out.String()), "\n")
		return "", fmt.Errorf("build %s %s: %w: %s", p.name, p.version, err, last[len(last)-1])
	}
	return builtAs(t.path(p), p, runtime.Version())
}

// builtAs reads back from the program what it was built from; goVersion, if not empty, is the Go it must be built with.
func builtAs(path string, p program, goVersion string) (string, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	tags := ""
	for _, s := range info.Settings {
		if s.Key == "-tags" {
			tags = s.Value
		}
	}
	if info.Main.Path != p.module || info.Main.Version != p.version || tags != p.tags ||
		info.GoVersion != goVersion && goVersion != "" {
		return "", fmt.Errorf("%s is %s %s (tags %q) of %s", path, info.Main.Path, info.Main.Version, tags, info.GoVersion)
	}
	v := info.Main.Version + ", " + info.GoVersion
	if tags != "" {
		v += ", tags " + tags
	}
	return v, nil
}
