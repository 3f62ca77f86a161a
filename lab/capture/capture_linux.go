package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

// Frame is an Ethernet frame that passed At after the capture began.
type Frame struct {
	At       time.Duration
	Outgoing bool // sent by the host, not received
	Data     []byte
}

// Capture is a running capture.
type Capture struct {
	begin time.Time
	conn  *os.File
	done  chan struct{}

	mu     sync.Mutex
	frames []Frame
	most   int
}

const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network byte order

// Start begins to note the first most frames of a host's interface; zero means all of them. The interface must have its
// offloads off (netns.Host.OffloadsOff), or frames are longer and checksums other than on a real cable.
func Start(h *netns.Host, dev string, most int) (*Capture, error) {
	var fd int
	err := h.Do(func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		// Protocol 0 hears nothing until it is bound to the interface.
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return os.NewSyscallError("packet socket", err)
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) // as much as is allowed
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: i.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("host %s: capture on %s: %w", h.Name, dev, err)
	}
	c := &Capture{begin: time.Now(), conn: os.NewFile(uintptr(fd), "capture"), done: make(chan struct{}), most: most}
	go c.run()
	return c, nil
}

func (c *Capture) run() {
	defer close(c.done)
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1<<16)
	for {
		var n int
		var from unix.Sockaddr
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, recvErr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(recvErr, unix.EAGAIN)
		})
		if err != nil {
			return // closed
		}
		if recvErr != nil {
			continue
		}
		ll, _ := from.(*unix.SockaddrLinklayer)
		f := Frame{At: time.Since(c.begin), Outgoing: ll != nil && ll.Pkttype == unix.PACKET_OUTGOING,
			Data: append([]byte(nil), buf[:n]...)}
		c.mu.Lock()
		if c.most == 0 || len(c.frames) < c.most {
			c.frames = append(c.frames, f)
		}
		c.mu.Unlock()
	}
}

// Frames returns what was noted so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frames[:len(c.frames):len(c.frames)]
}

// Stop ends the capture and returns what was noted.
func (c *Capture) Stop() []Frame {
	c.conn.Close()
	<-c.done
	return c.Frames()
}

// WritePcap writes frames as tcpdump does, with nanoseconds; time begins at zero. Frames after the first whole ones are
// cut to snap bytes; zero leaves all of them whole.
func WritePcap(w io.Writer, frames []Frame, whole, snap int) error {
	var b []byte
	for _, v := range []uint32{0xa1b23c4d, 2 | 4<<16, 0, 0, 1 << 16, 1} { // in nanoseconds; version 2.4; Ethernet
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for i, f := range frames {
		data := f.Data
		if snap > 0 && i >= whole && len(data) > snap {
			data = data[:snap]
		}
		for _, v := range []int{int(f.At / time.Second), int(f.At % time.Second), len(data), len(f.Data)} {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		b = append(b, data...)
	}
	_, err := w.Write(b)
	return err
}
