//go:build !linux

package cli

func mountSmallDisk() error { return nil }
