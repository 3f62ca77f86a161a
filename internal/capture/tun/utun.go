package tun

import (
	"encoding/binary"
	"io"
	"sync"
)

// utun is an Apple system's TUN, by its file. In front of each packet it has
//
//	0  address family: 2, or 30 for IPv6, big endian (4)
//
// and nothing says of a packet that its checksum is to be made.
type utun struct {
	file io.ReadWriteCloser

	mu  sync.Mutex
	out []byte // a family and a packet, which are written as one
}

const (
	utunHeader = 4
	utun4      = 2  // AF_INET
	utun6      = 30 // Apple's AF_INET6
)

func newUtun(file io.ReadWriteCloser) Device { return &utun{file: file} }

// Read implements Device.
func (d *utun) Read(b []byte) (Frame, error) {
	for {
		n, err := d.file.Read(b)
		if err != nil {
			return Frame{}, err
		}
		if n > utunHeader { // whose version the packet says itself
			return Frame{Packet: b[utunHeader:n]}, nil
		}
	}
}

// Write implements Device.
func (d *utun) Write(f Frame) error {
	if len(f.Packet) == 0 {
		return errFrame
	}
	f.complete()
	family := uint32(utun4)
	if f.Packet[0]>>4 == 6 {
		family = utun6
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.out = append(binary.BigEndian.AppendUint32(d.out[:0], family), f.Packet...)
	_, err := d.file.Write(d.out)
	return err
}

// Close implements Device.
func (d *utun) Close() error { return d.file.Close() }
