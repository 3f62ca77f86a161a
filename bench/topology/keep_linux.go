package topology

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// KeepCC refuses setsockopt(TCP_CONGESTION) to this thread and to whatever program it becomes, with EPERM, as a kernel
// does that allows nothing but its own congestion control. That kernel's switch, tcp_allowed_congestion_control, is the
// whole machine's, and no namespace's: hence a seccomp filter. It lasts until the program ends.
func KeepCC() error {
	arch, ok := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no filter of system calls for %s", runtime.GOARCH)
	}
	// struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits, of which the low halves are looked at.
	const nr, archAt, level, option = 0, 4, 16 + 8, 16 + 16
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	// unless goes on, or jumps over so many instructions.
	unless := func(k uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: skip, K: k}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	filter := []unix.SockFilter{
		load(archAt), unless(arch, 7),
		load(nr), unless(unix.SYS_SETSOCKOPT, 5),
		load(level), unless(unix.IPPROTO_TCP, 3),
		load(option), unless(unix.TCP_CONGESTION, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)),
		answer(unix.SECCOMP_RET_ALLOW),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	// Without privileges a filter is only for those who gain none, either.
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return os.NewSyscallError("prctl", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return os.NewSyscallError("seccomp", err)
	}
	runtime.KeepAlive(filter)
	return nil
}
