package tun

import "io"

// plain is a TUN of which packets come as they are, one to a Read and to a Write.
type plain struct{ file io.ReadWriteCloser }

// NewPackets is the TUN of something that carries whole packets.
func NewPackets(p io.ReadWriteCloser) Device { return plain{p} }

// Read implements Device.
func (d plain) Read(b []byte) (Frame, error) {
	n, err := d.file.Read(b)
	return Frame{Packet: b[:max(n, 0)]}, err
}

// Write implements Device.
func (d plain) Write(f Frame) error {
	f.complete()
	_, err := d.file.Write(f.Packet)
	return err
}

// Close implements Device.
func (d plain) Close() error { return d.file.Close() }
