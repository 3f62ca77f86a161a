//go:build unix

package local

import (
	"io/fs"
	"os"
	"syscall"
)

func ownAndClosed(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid() && info.Mode().Perm()&0o077 == 0
}
