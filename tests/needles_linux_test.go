package e2e

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// needles are what is searched for, by kind. Whether one whose kind ends in "?" is in memory while it is in use is a
// matter of chance. They are safe for concurrent use until the first search.
type needles struct {
	mu          sync.Mutex
	seen        map[string]bool
	raw, folded index
}

// An index finds needles by four bytes of each, none of which are zero: memory is full of zeros.
type index struct {
	by  map[uint32][]needle
	may [1 << 16]bool // by the first two of the four
}

type needle struct {
	kind   string
	b      []byte
	anchor int  // where in b the four bytes are
	weak   bool // so short that chance makes some of them
}

func (n *needles) add(kind string, b []byte, weak, folded bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := fmt.Sprint(folded, string(b))
	if n.seen[id] {
		return
	}
	if n.seen == nil {
		n.seen, n.raw.by, n.folded.by = make(map[string]bool), make(map[uint32][]needle), make(map[uint32][]needle)
	}
	ix := &n.raw
	if folded {
		ix = &n.folded
	}
	anchor := -1
	for i := range len(b) - 3 {
		if bytes.IndexByte(b[i:i+4], 0) < 0 {
			anchor = i // the last one: many begin alike
		}
	}
	if anchor < 0 {
		return // by chance an id or the like is not to be found so; there are others
	}
	n.seen[id] = true
	four := binary.LittleEndian.Uint32(b[anchor:])
	ix.by[four] = append(ix.by[four], needle{kind, bytes.Clone(b), anchor, weak})
	ix.may[uint16(four)] = true
}

// bytes adds a secret, an id, or the like.
func (n *needles) bytes(kind string, b []byte) { n.add(kind, b, false, false) }

// text adds a text in whatever spelling.
func (n *needles) text(kind, s string) { n.add(kind, []byte(strings.ToLower(s)), false, true) }

// addr adds an address in the forms that programs and packets have it in.
func (n *needles) addr(kind string, a netip.Addr) {
	n.text(kind, a.String())
	n.binaryAddr(kind, a, true)
}

// tunnel adds an address that a device was given. Where it is one of very many, four bytes of it are not looked for.
func (n *needles) tunnel(a netip.Addr, short bool) {
	n.text("tunnel address, as text?", a.String())
	n.binaryAddr("tunnel address", a, short)
}

func (n *needles) binaryAddr(kind string, a netip.Addr, short bool) {
	in16 := a.As16() // of IPv4, mapped: net.IP
	n.bytes(kind, in16[:])
	// netip.Addr is two numbers, in the machine's order.
	b := binary.NativeEndian.AppendUint64(nil, binary.BigEndian.Uint64(in16[:8]))
	n.bytes(kind, binary.NativeEndian.AppendUint64(b, binary.BigEndian.Uint64(in16[8:])))
	if a.Is4() && short {
		n.add(kind, in16[12:], true, false)
	}
}

// sockaddr adds an address and port as text and as the kernel has them.
func (n *needles) sockaddr(kind string, a netip.AddrPort) {
	n.text(kind, a.String())
	if a.Addr().Is4() {
		b := binary.NativeEndian.AppendUint16(nil, syscall.AF_INET)
		n.bytes(kind, append(binary.BigEndian.AppendUint16(b, a.Port()), a.Addr().AsSlice()...))
	}
}

// keyLog adds what a client's key log has of a connection, and the keys that are derived from it (RFC 8446 §7.3).
func (n *needles) keyLog(log string, suite uint16) {
	h, size := func() hash.Hash { return sha256.New() }, 16
	switch suite {
	case tls.TLS_AES_256_GCM_SHA384:
		h, size = func() hash.Hash { return sha512.New384() }, 32
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		size = 32
	}
	for line := range strings.Lines(log) {
		fields := strings.Fields(line)
		random, randomErr := hex.DecodeString(fields[1])
		secret, err := hex.DecodeString(fields[2])
		if err = errors.Join(err, randomErr); err != nil {
			panic(err)
		}
		n.bytes("random of a TLS handshake?", random)
		if !strings.HasSuffix(fields[0], "_TRAFFIC_SECRET_0") {
			n.bytes("secret of a TLS handshake?", secret)
			continue
		}
		n.bytes("secret of a TLS connection", secret)
		info := binary.BigEndian.AppendUint16(nil, uint16(size))
		info = append(append(info, 9), "tls13 key\x00"...)
		key, err := hkdf.Expand(h, secret, string(info), size)
		if err != nil {
			panic(err)
		}
		n.bytes("key of a TLS connection", key)
	}
}

// count is how many there are.
func (n *needles) count() int { return len(n.seen) }

// kinds are what there are needles of.
func (n *needles) kinds() []string {
	all := make(map[string]bool)
	for _, ix := range []*index{&n.raw, &n.folded} {
		for _, list := range ix.by {
			for _, one := range list {
				all[one.kind] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// found is which needles of each kind are there, and where each was met first.
type found struct {
	strong map[string]map[string]string // by kind and needle
	weak   map[string]string
}

func newFound() found {
	return found{strong: make(map[string]map[string]string), weak: make(map[string]string)}
}

// count is how many there are, but for what is kept. A single weak one is none: four bytes are one of them by chance.
func (f found) count() (n int) {
	for kind, at := range f.strong {
		if !strings.HasPrefix(kind, kept) {
			n += len(at)
		}
	}
	if len(f.weak) > 1 {
		n += len(f.weak)
	}
	return n
}

// has reports whether any needle of a kind was found.
func (f found) has(kind string) bool { return f.strong[kind] != nil }

func (f found) String() string {
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(f.strong)) {
		at := f.strong[kind]
		first := slices.Min(slices.Collect(maps.Keys(at)))
		fmt.Fprintf(&b, "\n\t%d × %s, as %q %s", len(at), kind, first, at[first])
	}
	if len(f.weak) > 0 {
		first := slices.Min(slices.Collect(maps.Keys(f.weak)))
		fmt.Fprintf(&b, "\n\t%d × four bytes of an address, as %q %s", len(f.weak), first, f.weak[first])
	}
	return b.String()
}

// search adds to f what is in data.
func (n *needles) search(f found, where string, base uint64, data []byte) {
	n.raw.search(f, where, base, data, data)
	folded := make([]byte, len(data))
	for i, b := range data {
		if 'A' <= b && b <= 'Z' {
			b |= 0x20
		}
		folded[i] = b
	}
	n.folded.search(f, where, base, folded, data)
}

var zeros = make([]byte, 4096)

func (ix *index) search(f found, where string, base uint64, data, shown []byte) {
	for at := 0; at+4 <= len(data); at++ {
		if at%len(zeros) == 0 && bytes.HasPrefix(data[at:], zeros) {
			at += len(zeros) - 1
			continue
		}
		four := binary.LittleEndian.Uint32(data[at:])
		if !ix.may[uint16(four)] {
			continue
		}
		for _, one := range ix.by[four] {
			i := at - one.anchor
			if i < 0 || !bytes.HasPrefix(data[i:], one.b) {
				continue
			}
			at := fmt.Sprintf("in %s at %x: %q", where, base+uint64(i), shown[max(0, i-40):min(len(data), i+len(one.b)+40)])
			switch {
			case one.weak:
				if f.weak[string(one.b)] == "" {
					f.weak[string(one.b)] = at
				}
			case f.strong[one.kind] == nil:
				f.strong[one.kind] = map[string]string{string(one.b): at}
			case f.strong[one.kind][string(one.b)] == "":
				f.strong[one.kind][string(one.b)] = at
			}
		}
	}
}

// searchMemory looks at all of a process's memory that it could have written to or was given, while it stands still:
// what a core has, and more. Where that is not allowed it skips the test.
func (n *needles) searchMemory(t *testing.T, pid int) found {
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
