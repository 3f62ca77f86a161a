//go:build !linux

// Package verbs needs Linux, as the namespaces do.
package verbs
