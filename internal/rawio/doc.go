// Package rawio reads and writes descriptors that never wait (O_NONBLOCK, as all of Go's sockets are) without telling
// the scheduler about it.
//
// Go's own calls announce a system call, since it might wait; after 20 µs the scheduler then gives the processor to
// another thread, and the caller has to get one back. Writing 64 KiB to a TCP socket takes longer than that without ever
// waiting: the two context switches were a fifth of a gateway's time.
//
// Conn does that for a connection: it waits for something to read without holding a buffer, and writes what goes at once.
// Under the race detector, and on systems other than Linux, its calls are the ordinary ones. Writev, which is Linux's only, does
// it for a TUN: what takes time there is the kernel's own TCP, which runs before the call returns.
package rawio
