package linkmodel

import (
	"context"
	"math"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	ringFrame  = 2048
	ringBlock  = 1 << 17
	ringFrames = 8192 // 16 MB: rides out a stall of 80 ms at 100,000 frames a second
	batch      = 64
)

// never is later than any frame is due.
const never = math.MaxInt64

// grain is the resolution at which frames leave: half of it early or late. Coarser means fewer wake-ups, which cost more
// than all else: with 10 µs at least, two Forwarders carried a third of the small frames that they do with 50.
func grain(d Direction) time.Duration {
	return min(max(d.Delay/250, 50*time.Microsecond), 400*time.Microsecond)
}

// direction is one of a Forwarder's two: a thread that takes frames in, and lets them out when their time has come.
type direction struct {
	rx, tx int // packet sockets
	wake   int // eventfd
	back   *direction
	begin  time.Time
	tap    func(at int64, arriving bool, frame []byte)

	// The thread's own.
	ring []byte
	head int   // next ring frame to look at
	last int64 // arrival of the last frame
	msgs [batch]mmsghdr
	iovs [batch]unix.Iovec
	out  [batch]packet

	mu     sync.Mutex
	line   *line
	grain  time.Duration
	wakeAt int64 // when the thread will look at line again; 0 while it is awake
	closed bool
}

type mmsghdr struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

func openDirection(in, out string, l *line, g time.Duration) (d *direction, err error) {
	d = &direction{rx: -1, tx: -1, wake: -1, line: l, grain: g, begin: time.Now()}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	inIf, err := net.InterfaceByName(in)
	if err != nil {
		return nil, err
	}
	outIf, err := net.InterfaceByName(out)
	if err != nil {
		return nil, err
	}
	if d.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	// Protocol 0 at first: nothing is received before the ring is there and the socket is bound.
	if d.rx, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	for _, o := range []struct {
		name       string
		opt, value int
	}{
		{"PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, 1},
	} {
		if err = unix.SetsockoptInt(d.rx, unix.SOL_PACKET, o.opt, o.value); err != nil {
			return nil, os.NewSyscallError(o.name, err)
		}
	}
	req := unix.TpacketReq{
		Block_size: ringBlock, Block_nr: ringFrames * ringFrame / ringBlock,
		Frame_size: ringFrame, Frame_nr: ringFrames,
	}
	if err = unix.SetsockoptTpacketReq(d.rx, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, os.NewSyscallError("PACKET_RX_RING", err)
	}
	d.ring, err = unix.Mmap(d.rx, 0, ringFrames*ringFrame, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	if d.tx, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("packet socket", err)
	}
	if err = unix.SetsockoptInt(d.tx, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return nil, os.NewSyscallError("PACKET_QDISC_BYPASS", err)
	}
	if err = unix.Bind(d.tx, &unix.SockaddrLinklayer{Ifindex: outIf.Index}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	all := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: inIf.Index}
	if err = unix.Bind(d.rx, all); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	return d, nil
}

func htons(v uint16) uint16 {
	b := [2]byte{byte(v >> 8), byte(v)}
	return *(*uint16)(unsafe.Pointer(&b))
}

func (d *direction) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.ring != nil {
		unix.Munmap(d.ring)
	}
	for _, fd := range []int{d.rx, d.tx, d.wake} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	return nil
}

func (d *direction) set(dir Direction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.line.set(dir)
	d.grain = grain(dir)
}

func (d *direction) snapshot() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kernelDropsLocked()
	return d.line.snapshot()
}

// kernelDropsLocked adds what the kernel could not put into the ring; reading its counter clears it.
func (d *direction) kernelDropsLocked() {
	if d.closed {
		return
	}
	if s, err := unix.GetsockoptTpacketStats(d.rx, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		d.line.stats.KernelDrop += uint64(s.Drops)
	}
}

// deliver puts a frame that arrived onto the path.
func (d *direction) deliver(arrived int64, frame []byte) {
	d.mu.Lock()
	d.line.push(arrived, frame)
	d.unlock()
}

// emit puts a frame onto the path after a wait. It may be called on the other direction's thread.
func (d *direction) emit(now int64, after time.Duration, frame []byte) {
	d.mu.Lock()
	if after > 0 {
		d.line.pushLater(now+int64(after), frame)
	} else {
		d.line.push(now, frame)
	}
	if due, ok := d.line.next(); ok && due+int64(d.grain/2) < d.wakeAt {
		d.wakeLocked()
	}
	d.unlock()
}

// unlock unlocks mu, and then puts what the path answered onto the way back: no two directions are ever locked at once.
// Answers are too short to be answered.
func (d *direction) unlock() {
	answers := d.line.answers
	d.line.answers = nil
	d.mu.Unlock()
	for _, a := range answers {
		d.back.emit(a.at, 0, a.frame)
	}
}

func (d *direction) wakeLocked() {
	d.wakeAt = 0
	if !d.closed {
		unix.Write(d.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // any number but 0
	}
}

func (d *direction) run(ctx context.Context, realtime bool, deliver func(arrived int64, frame []byte)) error {
	// A thread of its own: its timer slack is changed, and its sleeps must not share the scheduler's timers, whose
	// resolution is a millisecond. The thread ends with the goroutine.
	runtime.LockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1000, 0, 0, 0)
	if realtime {
		const schedRR = 2 // SCHED_RR
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: schedRR, Priority: 1}, 0)
		d.mu.Lock()
		d.line.stats.Realtime = err == nil
		d.mu.Unlock()
	}
	defer func() {
		d.mu.Lock()
		d.kernelDropsLocked()
		var ts unix.Timespec
		unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
		d.line.stats.CPUSeconds = time.Duration(ts.Nano()).Seconds()
		d.mu.Unlock()
	}()
	stop := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.wakeLocked()
	})
	defer stop()
	poll := []unix.PollFd{{Fd: int32(d.wake), Events: unix.POLLIN}, {Fd: int32(d.rx), Events: unix.POLLIN}}
	for ctx.Err() == nil {
		got := d.receive(deliver)
		wait, err := d.send(got > 0)
		if err != nil {
			return err
		}
		fds, timeout := poll, (*unix.Timespec)(nil)
		if got > 0 {
			// More will come soon. Let it gather in the ring rather than be woken for each.
			fds = poll[:1]
		}
		if wait != never {
			ts := unix.NsecToTimespec(wait)
			timeout = &ts
		}
		if _, err := unix.Ppoll(fds, timeout, nil); err != nil && err != unix.EINTR {
			return os.NewSyscallError("ppoll", err)
		}
		d.mu.Lock()
		d.wakeAt = 0
		if poll[0].Revents != 0 {
			var count [8]byte
			unix.Read(d.wake, count[:])
		}
		d.mu.Unlock()
	}
	return nil
}

// send sends what is due and says how long to wait; hurry means not longer than a grain.
func (d *direction) send(hurry bool) (wait int64, err error) {
	d.mu.Lock()
	defer d.unlock()
	for {
		horizon := int64(time.Since(d.begin)) + int64(d.grain/2)
		n := 0
		for n < batch {
			p, ok := d.line.pop(horizon)
			if !ok {
				break
			}
			d.out[n] = p
			n++
		}
		if n == 0 {
			break
		}
		if err := d.sendLocked(n); err != nil {
			return 0, err
		}
		if n < batch {
			break
		}
	}
	wait, d.wakeAt = never, never
	now := int64(time.Since(d.begin))
	if due, ok := d.line.next(); ok {
		wait = max(due-now-int64(d.grain/2), int64(d.grain))
	}
	if hurry {
		wait = min(wait, int64(d.grain))
	}
	if wait != never {
		d.wakeAt = now + wait
	}
	return wait, nil
}

// Offsets in struct tpacket2_hdr.
const (
	tpStatus  = 0
	tpLen     = 4
	tpSnaplen = 8
	tpMac     = 12 // u16
	tpSec     = 16
	tpNsec    = 20
)

// receive takes in what has arrived.
func (d *direction) receive(deliver func(arrived int64, frame []byte)) (got int) {
	var now, toMono int64
	for got < ringFrames {
		f := d.ring[d.head*ringFrame : (d.head+1)*ringFrame : (d.head+1)*ringFrame]
		status := (*uint32)(unsafe.Pointer(&f[tpStatus]))
		s := atomic.LoadUint32(status)
		if s&unix.TP_STATUS_USER == 0 {
			break
		}
		if got%batch == 0 { // the clocks are read once for many frames
			now, toMono = d.clocks()
		}
		length, snap := u32(f, tpLen), u32(f, tpSnaplen)
		mac := int(*(*uint16)(unsafe.Pointer(&f[tpMac])))
		stamp := int64(u32(f, tpSec))*int64(time.Second) + int64(u32(f, tpNsec))
		arrived := stamp + toMono
		if arrived > now { // it came since the clocks were read: this thread may have had to wait in between
			now, toMono = d.clocks()
			arrived = stamp + toMono
		}
		// Never in the future nor before the last one, whatever somebody does to the wall clock.
		if arrived > now || arrived < now-int64(time.Second) {
			arrived = now
		}
		arrived = max(arrived, d.last)
		d.last = arrived
		unfinished, oversize := s&unix.TP_STATUS_CSUMNOTREADY != 0, snap != length || mac+int(snap) > ringFrame
		if unfinished || oversize {
			d.mu.Lock()
			d.line.refuse(unfinished, int(length))
			d.mu.Unlock()
		} else {
			if d.tap != nil {
				d.tap(arrived, true, f[mac:mac+int(snap)])
			}
			deliver(arrived, f[mac:mac+int(snap)])
		}
		atomic.StoreUint32(status, unix.TP_STATUS_KERNEL)
		d.head = (d.head + 1) % ringFrames
		got++
	}
	return got
}

// clocks returns the time since begin, and what makes it out of the wall clock's.
func (d *direction) clocks() (now, toMono int64) {
	t := time.Now()
	now = int64(t.Sub(d.begin))
	return now, now - t.UnixNano()
}

func u32(f []byte, at int) uint32 { return *(*uint32)(unsafe.Pointer(&f[at])) }

// sendLocked sends the first n packets of out and frees them.
func (d *direction) sendLocked(n int) error {
	for i := range n {
		d.iovs[i].Base = &d.out[i].data[0]
		d.iovs[i].SetLen(len(d.out[i].data))
		d.msgs[i].hdr.Iov = &d.iovs[i]
		d.msgs[i].hdr.SetIovlen(1)
	}
	for i := 0; i < n; {
		k, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(d.tx), uintptr(unsafe.Pointer(&d.msgs[i])),
			uintptr(n-i), 0, 0, 0)
		switch errno {
		case 0:
			now := int64(time.Since(d.begin))
			for range k {
				d.line.left(now, d.out[i])
				if d.tap != nil {
					d.tap(now, false, d.out[i].data)
				}
				i++
			}
		case unix.EINTR:
		case unix.EMSGSIZE: // longer than the far interface takes
			d.line.stats.Oversize++
			i++
		case unix.ENOBUFS, unix.EAGAIN, unix.ENETDOWN:
			// The far interface's backlog is full, or it is down: as good as a drop, but not one that was asked for.
			d.line.stats.KernelDrop++
			i++
		default:
			return os.NewSyscallError("sendmmsg", errno)
		}
	}
	for i := range n {
		d.line.free(d.out[i])
		d.out[i] = packet{}
	}
	return nil
}
