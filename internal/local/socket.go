package local

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// maxSocket is the longest path a socket may have everywhere: macOS's sockaddr_un holds 104 bytes with the zero at its
// end, Linux's and Windows's 108.
const maxSocket = 103

// socketPath is where the socket of a directory lies: in it, or if that path is too long, in a directory of the user's.
func socketPath(dir, name string, env func(string) string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if path := filepath.Join(dir, name+".sock"); len(path) <= maxSocket {
		return path, nil
	}
	sum := sha256.Sum256([]byte(dir))
	file := name + "-" + hex.EncodeToString(sum[:6]) + ".sock"
	if runtime := env("XDG_RUNTIME_DIR"); filepath.IsAbs(runtime) {
		path := filepath.Join(runtime, "godwit", file)
		if len(path) <= maxSocket && privateDir(filepath.Dir(path)) == nil {
			return path, nil
		}
	}
	own := filepath.Join(os.TempDir(), "godwit-"+strconv.Itoa(os.Getuid()))
	if err := privateDir(own); err != nil {
		return "", fmt.Errorf("a directory for the status socket, because %q is too long for one: %w", dir, err)
	}
	if path := filepath.Join(own, file); len(path) <= maxSocket {
		return path, nil
	}
	return "", fmt.Errorf("%q and %q are too long for a socket: choose a shorter state directory", dir, own)
}

// privateDir makes a directory that is the user's own and closed to others, or checks that it is. It follows no link:
// the parent may be a place where everybody can make files.
func privateDir(path string) error {
	if err := os.Mkdir(path, 0o700); err == nil {
		return nil
	} else if !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() || !ownAndClosed(info) {
		return fmt.Errorf("%q is not a directory of yours alone: remove it", path)
	}
	return nil
}
