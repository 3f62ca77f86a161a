package owner

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// cgroups are the control groups whose numbers have been asked for. A number is that of the group's directory, and no other
// group ever has the same.
type cgroups struct {
	mu    sync.Mutex
	root  string // of cgroup2; empty until it is found
	known map[uint64]string
}

var groups cgroups

// mostCgroups bounds a look at all of them.
const mostCgroups = 50_000

// path is the path of a group; empty if there is none (any more).
func (g *cgroups) path(id uint64) string {
	if id == 0 {
		return "" // an old kernel
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if path, ok := g.known[id]; ok {
		return path
	}
	if g.root == "" {
		if g.root = cgroupRoot(); g.root == "" {
			return ""
		}
	}
	known := make(map[uint64]string)
	_ = filepath.WalkDir(g.root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil: // it has just been removed
			return fs.SkipDir
		case !d.IsDir():
			return nil
		case len(known) >= mostCgroups:
			return fs.SkipAll
		}
		var st syscall.Stat_t
		if syscall.Lstat(path, &st) == nil {
			known[st.Ino] = "/" + strings.TrimPrefix(strings.TrimPrefix(path, g.root), "/")
		}
		return nil
	})
	g.known = known
	return known[id]
}

// cgroupRoot is where cgroup2 is mounted (proc_pid_mountinfo(5)).
func cgroupRoot() string {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(text) {
		if f := strings.Fields(string(line)); len(f) > 4 && f[3] == "/" && bytes.Contains(line, []byte(" - cgroup2 ")) {
			return f[4]
		}
	}
	return ""
}
