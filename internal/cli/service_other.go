//go:build !linux

package cli

func needSystemd() error { return errNoSystemd }

func trusted(string) error { return nil }

func comesBack() bool { return false }
