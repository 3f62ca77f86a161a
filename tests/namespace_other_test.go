//go:build !linux

package e2e

import "errors"

const exitNoNamespaces = 99

func runInside() (code int, reason string) { return 0, "needs Linux's network namespaces" }

func setUpInside() error { return errors.ErrUnsupported }

func enter(string) int { return exitNoNamespaces }
