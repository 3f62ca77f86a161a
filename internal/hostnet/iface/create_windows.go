package iface

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/windows"
	"golang.zx2c4.com/wintun"
)

// ring is what fits between us and Wintun's driver, in bytes each way.
const ring = 8 << 20

// packets is a Wintun adapter: one packet to a Read, and to a Write.
type packets struct {
	adapter *wintun.Adapter
	session wintun.Session
	closed  windows.Handle // an event, set once it is

	mu    sync.RWMutex // held while the session is used
	ended bool         // guarded by mu
}

// CreateWintun makes an adapter, which vanishes when it is closed, or with this process. Read is not safe for concurrent use;
// after Close it returns os.ErrClosed.
func CreateWintun(name string) (io.ReadWriteCloser, error) {
	// Always the same one, so that Windows does not take it for another network each time.
	id := &windows.GUID{Data1: 0x676f6477, Data2: 0x6974, Data3: 0x4e54, Data4: [8]byte{0x87, 0x75, 0x6e, 0x74, 0x75, 0x6e, 0x30, 0x31}}
	adapter, err := wintun.CreateAdapter(name, "Godwit", id)
	switch {
	case errors.Is(err, windows.ERROR_MOD_NOT_FOUND), errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return nil, fmt.Errorf("wintun.dll is not beside this program: get it from https://www.wintun.net, "+
			"for this machine's kind of processor: %w", err)
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return nil, fmt.Errorf("making a TUN: %w: it takes an administrator", err)
	case err != nil:
		return nil, fmt.Errorf("making a TUN: %w", err)
	}
	session, err := adapter.StartSession(ring)
	if err != nil {
		adapter.Close()
		return nil, fmt.Errorf("opening the TUN: %w", err)
	}
	closed, err := windows.CreateEvent(nil, 1, 0, nil) // set by hand, and not set yet
	if err != nil {
		session.End()
		adapter.Close()
		return nil, fmt.Errorf("opening the TUN: %w", err)
	}
	return &packets{adapter: adapter, session: session, closed: closed}, nil
}

func (p *packets) Read(b []byte) (int, error) {
	for {
		n, err := p.next(b)
		if !errors.Is(err, windows.ERROR_NO_MORE_ITEMS) {
			return n, err
		}
	}
}

// next takes a packet that is there, or waits until there may be one.
func (p *packets) next(b []byte) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.ended {
		return 0, os.ErrClosed
	}
	packet, err := p.session.ReceivePacket()
	if err == nil {
		defer p.session.ReleaseReceivePacket(packet)
		return copy(b, packet), nil
	}
	if errors.Is(err, windows.ERROR_NO_MORE_ITEMS) {
		which, wrong := windows.WaitForMultipleObjects([]windows.Handle{p.closed, p.session.ReadWaitEvent()}, false, windows.INFINITE)
		if wrong != nil {
			return 0, wrong
		}
		if which == windows.WAIT_OBJECT_0 {
			return 0, os.ErrClosed
		}
	}
	return 0, err
}

func (p *packets) Write(b []byte) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.ended {
		return 0, os.ErrClosed
	}
	packet, err := p.session.AllocateSendPacket(len(b))
	if err != nil {
		return 0, err // the ring is full, say
	}
	defer p.session.SendPacket(packet)
	return copy(packet, b), nil
}

func (p *packets) Close() error {
	if err := windows.SetEvent(p.closed); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return nil
	}
	p.ended = true
	p.session.End()
	return p.adapter.Close()
}
