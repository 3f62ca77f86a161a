// Package kept holds what it takes to undo a change of this machine's network, on the disk, in a state directory of each who makes
// such changes. It is there before the change is made, so that another process can undo it after a crash.
package kept

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// file is its name in a state directory.
const file = "before.json"

// There reports whether something is kept, or may be.
func There(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return !errors.Is(err, fs.ErrNotExist)
}

// Read reads what is kept; where nothing is, that is the zero T.
func Read[T any](dir string) (T, error) {
	var none, k T
	path := filepath.Join(dir, file)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	} else if err != nil {
		return none, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return none, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// Write keeps something, in the place of what was kept before. When it returns, it is on the disk.
func Write(dir string, what any) error {
	text, err := json.MarshalIndent(what, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, file)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	if err := ReplaceFile(path+".new", path, text, 0o600, -1, -1); err != nil {
		return fmt.Errorf("keep what was before: %w", err)
	}
	return nil
}

// Remove keeps nothing any more.
func Remove(dir string) error {
	err := os.Remove(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ReplaceFile puts a file in the place of another at once, by way of temp. Owners below 0 are this process's.
func ReplaceFile(temp, path string, text []byte, mode fs.FileMode, uid, gid int) error {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if uid >= 0 {
		err = errors.Join(err, f.Chown(uid, gid))
	}
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes what happened to names in a directory last. Some file systems cannot, and need not.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}
