// Package needles searches a haystack, such as a process's memory, for what must not be in it: addresses, names, keys, each
// in all the forms that programs have them in.
package needles

import (
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
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Kept begins the kinds of what may be found, and is not counted.
const Kept = "the network's "

// A Set is what is searched for, by kind. Whether a needle whose kind ends in "?" is in memory while it is in use is a
// matter of chance. It is safe for concurrent use until the first search. The zero Set is empty.
type Set struct {
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

func (n *Set) add(kind string, b []byte, weak, folded bool) {
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

// Bytes adds a secret, an id, or the like.
func (n *Set) Bytes(kind string, b []byte) { n.add(kind, b, false, false) }

// Text adds a text in whatever spelling.
func (n *Set) Text(kind, s string) { n.add(kind, []byte(strings.ToLower(s)), false, true) }

// Addr adds an address in the forms that programs and packets have it in.
func (n *Set) Addr(kind string, a netip.Addr) {
	n.Text(kind, a.String())
	n.binaryAddr(kind, a, true)
}

// Tunnel adds an address that a device was given. Where it is one of very many, four bytes of it are not looked for.
func (n *Set) Tunnel(a netip.Addr, short bool) {
	n.Text("tunnel address, as text?", a.String())
	n.binaryAddr("tunnel address", a, short)
}

func (n *Set) binaryAddr(kind string, a netip.Addr, short bool) {
	in16 := a.As16() // of IPv4, mapped: net.IP
	n.Bytes(kind, in16[:])
	// netip.Addr is two numbers, in the machine's order.
	b := binary.NativeEndian.AppendUint64(nil, binary.BigEndian.Uint64(in16[:8]))
	n.Bytes(kind, binary.NativeEndian.AppendUint64(b, binary.BigEndian.Uint64(in16[8:])))
	if a.Is4() && short {
		n.add(kind, in16[12:], true, false)
	}
}

// SockAddr adds an address and port as text and as the kernel has them.
func (n *Set) SockAddr(kind string, a netip.AddrPort) {
	n.Text(kind, a.String())
	if a.Addr().Is4() {
		b := binary.NativeEndian.AppendUint16(nil, syscall.AF_INET)
		n.Bytes(kind, append(binary.BigEndian.AppendUint16(b, a.Port()), a.Addr().AsSlice()...))
	}
}

// KeyLog adds what a client's key log has of a connection, and the keys that are derived from it (RFC 8446 §7.3).
func (n *Set) KeyLog(log string, suite uint16) {
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
		n.Bytes("random of a TLS handshake?", random)
		if !strings.HasSuffix(fields[0], "_TRAFFIC_SECRET_0") {
			n.Bytes("secret of a TLS handshake?", secret)
			continue
		}
		n.Bytes("secret of a TLS connection", secret)
		info := binary.BigEndian.AppendUint16(nil, uint16(size))
		info = append(append(info, 9), "tls13 key\x00"...)
		key, err := hkdf.Expand(h, secret, string(info), size)
		if err != nil {
			panic(err)
		}
		n.Bytes("key of a TLS connection", key)
	}
}

// Count is how many there are.
func (n *Set) Count() int { return len(n.seen) }

// Kinds are what there are needles of.
func (n *Set) Kinds() []string {
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

// Found is which needles of each kind are there, and where each was met first.
type Found struct {
	strong map[string]map[string]string // by kind and needle
	weak   map[string]string
}

func newFound() Found {
	return Found{strong: make(map[string]map[string]string), weak: make(map[string]string)}
}

// Count is how many there are, but for what is kept. A single weak one is none: four bytes are one of them by chance.
func (f Found) Count() (n int) {
	for kind, at := range f.strong {
		if !strings.HasPrefix(kind, Kept) {
			n += len(at)
		}
	}
	if len(f.weak) > 1 {
		n += len(f.weak)
	}
	return n
}

// Kept is how many there are of what is kept, by kind.
func (f Found) Kept() map[string]int {
	kept := make(map[string]int)
	for kind, at := range f.strong {
		if strings.HasPrefix(kind, Kept) {
			kept[kind] = len(at)
		}
	}
	return kept
}

// Has reports whether any needle of a kind was found.
func (f Found) Has(kind string) bool { return f.strong[kind] != nil }

func (f Found) String() string {
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

// Search looks at data, which where says where it is from.
func (n *Set) Search(where string, data []byte) Found {
	f := newFound()
	n.search(f, where, 0, data)
	return f
}

func (n *Set) search(f Found, where string, base uint64, data []byte) {
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

func (ix *index) search(f Found, where string, base uint64, data, shown []byte) {
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
