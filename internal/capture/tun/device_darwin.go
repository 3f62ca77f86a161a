package tun

import "os"

// NewDevice is the TUN of a file: one of iface.Create's, or one that somebody else has made. A utun has no offloads.
func NewDevice(f *os.File, _ bool) Device { return newUtun(f) }
