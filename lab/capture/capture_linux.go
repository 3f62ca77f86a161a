package capture

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/lab/netns"
)

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
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return os.NewSyscallError("packet socket", err)
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: i.Index})
	})
	if err != nil {
		return nil, fmt.Errorf("host %s: capture on %s: %w", h.Name, dev, err)
	}
	c := &Capture{begin: time.Now().Round(0), conn: os.NewFile(uintptr(fd), "capture"), done: make(chan struct{}), most: most}
	go c.run()
	return c, nil
}

func (c *Capture) run() {
	defer close(c.done)
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return
	}
	buf, control := make([]byte, 1<<16), make([]byte, 128)
	for {
		var n, controls int
		var from unix.Sockaddr
		var recvErr error
		err := raw.Read(func(fd uintptr) bool {
			n, controls, _, from, recvErr = unix.Recvmsg(int(fd), buf, control, 0)
			return !errors.Is(recvErr, unix.EAGAIN)
		})
		if err != nil {
			return // closed
		}
		if recvErr != nil {
			continue
		}
		ll, _ := from.(*unix.SockaddrLinklayer)
		f := Frame{At: passed(control[:controls]).Sub(c.begin), Outgoing: ll != nil && ll.Pkttype == unix.PACKET_OUTGOING,
			Data: bytes.Clone(buf[:n]), Length: n}
		c.mu.Lock()
		if c.most == 0 || len(c.frames) < c.most {
			c.frames = append(c.frames, f)
		}
		c.mu.Unlock()
	}
}

// passed is when the kernel saw the frame, which can be a while before it is read here.
func passed(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		var at unix.Timespec
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(at)) {
			at = *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
			return time.Unix(at.Unix())
		}
	}
	return time.Now()
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
