// Package coredump keeps what a process holds in memory, keys and other people's traffic, from being written to disk
// when it crashes, and from other processes of the same user. Where the system has nothing of the kind it does nothing.
package coredump
