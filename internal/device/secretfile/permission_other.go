//go:build !unix

package secretfile

import "io/fs"

func exposed(fs.FileInfo) bool { return false }

// syncDir does nothing: a directory cannot be opened for syncing here.
func syncDir(string) error { return nil }
