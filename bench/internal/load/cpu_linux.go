package load

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// groupTime is the CPU time that a process group has used, with the finished children its members waited for.
func groupTime(pgid int) (time.Duration, error) {
	pids, reaped, err := group(pgid)
	if err != nil {
		return 0, err
	}
	sum := reaped
	for _, pid := range pids {
		// The process's CPU clock, clock_getcpuclockid(3): nanoseconds, where /proc/PID/stat counts in 10 ms.
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid)<<3|2, &ts); err == nil {
			sum += time.Duration(ts.Nano())
		}
	}
	return sum, nil
}

// GroupRSS is the resident memory of a process group in bytes.
func GroupRSS(pgid int) (int64, error) {
	pids, _, err := group(pgid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
		if err != nil {
			continue
		}
		if f := bytes.Fields(b); len(f) > 1 {
			pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
			sum += pages * int64(os.Getpagesize())
		}
	}
	return sum, nil
}

// group lists the members of a process group, and what their reaped children have used.
func group(pgid int) (pids []int, reaped time.Duration, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, 0, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		f := statFields(pid)
		// After the name: state ppid pgrp ... utime stime cutime cstime are 1-based fields 14 to 17 of all (proc(5)).
		if len(f) < 15 || string(f[2]) != strconv.Itoa(pgid) {
			continue
		}
		pids = append(pids, pid)
		for _, ticks := range f[13:15] {
			n, _ := strconv.ParseInt(string(ticks), 10, 64)
			reaped += time.Duration(n) * (time.Second / userHZ)
		}
	}
	if len(pids) == 0 {
		return nil, 0, fmt.Errorf("process group %d is gone", pgid)
	}
	return pids, reaped, nil
}

// userHZ is the unit of /proc's times on every Linux architecture that Go runs on.
const userHZ = 100

// statFields are the fields of /proc/PID/stat after the name, which may hold spaces and brackets.
func statFields(pid int) [][]byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	if i := bytes.LastIndexByte(b, ')'); i >= 0 {
		return bytes.Fields(b[i+1:])
	}
	return nil
}

// MachineBusy is the CPU time that the whole machine has been busy since it started.
func MachineBusy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	var ticks int64
	for i, f := range bytes.Fields(line) {
		switch i { // cpu user nice system idle iowait irq softirq steal
		case 1, 2, 3, 6, 7:
			n, _ := strconv.ParseInt(string(f), 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * (time.Second / userHZ)
}
