//go:build !linux

package store_test

import "errors"

func childFill([]string) error {
	return errors.New("a small file system of one's own is to be had on Linux only")
}
