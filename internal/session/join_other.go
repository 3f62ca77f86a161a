//go:build !unix

package session

import "net"

// rawConn is only on systems whose descriptors can be tried without waiting; elsewhere Join uses Read and Write.
type rawConn struct{}

func newRawConn(net.Conn) *rawConn { return nil }

func (*rawConn) readChunk(int) ([]byte, int, error) { panic("not reached: newRawConn returned nil") }
func (*rawConn) tryWrite([]byte) (int, error)       { panic("not reached: newRawConn returned nil") }
