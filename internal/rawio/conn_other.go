//go:build !unix

package rawio

import "net"

// Conn is only on systems whose descriptors can be tried without waiting; elsewhere New returns nil.
type Conn struct{}

// New returns nil.
func New(net.Conn, func() []byte, func()) *Conn { return nil }

// Read is not reached.
func (*Conn) Read() (int, error) { panic("not reached: New returned nil") }

// TryWrite is not reached.
func (*Conn) TryWrite([]byte) (int, error) { panic("not reached: New returned nil") }
