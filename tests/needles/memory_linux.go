package needles

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
)

// SearchMemory looks at all of a process's memory that it could have written to or was given, while it stands still:
// what a core has, and more. Where that is not allowed it skips the test.
func (n *Set) SearchMemory(t *testing.T, pid int) Found {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(pid, syscall.SIGCONT) }()
	ranges, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	var mem *os.File
	if err == nil {
		mem, err = os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	}
	if errors.Is(err, fs.ErrPermission) {
		t.Skipf("needs to read another process's memory (CAP_SYS_PTRACE): %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mem.Close() }()
	f, total := newFound(), 0
	for lines := bufio.NewScanner(bytes.NewReader(ranges)); lines.Scan(); {
		var from, to uint64
		var mode, offset, device, inode, name string
		_, _ = fmt.Sscanf(lines.Text(), "%x-%x %s %s %s %s %s", &from, &to, &mode, &offset, &device, &inode, &name)
		if mode[:2] == "r-" && inode != "0" { // as it is in the program's file
			continue
		}
		if mode[0] != 'r' || strings.HasPrefix(name, "[vvar") || name == "[vsyscall]" {
			continue
		}
		data := make([]byte, to-from)
		got, err := io.ReadFull(io.NewSectionReader(mem, int64(from), int64(to-from)), data)
		if err != nil && got == 0 {
			t.Errorf("%s: %v", lines.Text(), err)
		}
		total += got
		if name == "" {
			name = "memory of its own"
		}
		n.search(f, name, from, data[:got])
	}
	if total < 1<<20 {
		t.Errorf("only %d bytes of memory were searched", total)
	}
	return f
}
