//go:build !unix

package https

import "net"

// rawConn is only on systems whose descriptors can be tried without waiting.
type rawConn struct{}

func newRawConn(net.Conn) *rawConn { return nil }

func (*rawConn) read() (*[]byte, int, error)  { panic("not reached: newRawConn returned nil") }
func (*rawConn) tryWrite([]byte) (int, error) { panic("not reached: newRawConn returned nil") }
