//go:build linux || darwin || windows

package hostnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const keptFile = "before.json"

func readKept(dir string) (k kept, err error) {
	path := filepath.Join(dir, keptFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	} else if err != nil {
		return k, err
	}
	if err := json.Unmarshal(text, &k); err != nil {
		return kept{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// save writes what is kept.
func (h *Host) save() error {
	text, err := json.MarshalIndent(h.kept, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(h.dir, keptFile)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(text) {
		return nil
	}
	if err := replaceFile(path+".new", path, text, 0o600, -1, -1); err != nil {
		return fmt.Errorf("keep what was before: %w", err)
	}
	return nil
}

func removeKept(dir string) error {
	err := os.Remove(filepath.Join(dir, keptFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// replaceFile puts a file in the place of another at once, by way of temp. Owners below 0 are this process's.
func replaceFile(temp, path string, text []byte, mode fs.FileMode, uid, gid int) error {
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
	return syncDir(filepath.Dir(path))
}

// syncDir makes what happened to names in a directory last. Some file systems cannot, and need not.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}
