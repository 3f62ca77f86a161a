// Package nft writes firewall tables: chains of rules, put together from matches, and the sets that they look into. The kernel takes
// a whole table in one transaction, in the place of the one that is there, so that no packet sees neither, or half.
//
// It is a thin layer over google/nftables, which speaks to the kernel; words are those of nft(8).
package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go4.org/netipx"
	"golang.org/x/sys/unix"
)

// The families of packets, where a table is for more than one.
const (
	IPv4 byte = unix.NFPROTO_IPV4
	IPv6 byte = unix.NFPROTO_IPV6
)

var families = []byte{IPv4, IPv6}

// Table is a table that is being written: nothing is in force before Flush. It is not safe for concurrent use.
type Table struct {
	c     *nftables.Conn
	table *nftables.Table
	last  *nftables.Chain
	err   error
}

// Replace begins a table that takes the place of one of the same name, or of none.
func Replace(name string, family nftables.TableFamily) (*Table, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	table := &nftables.Table{Name: name, Family: family}
	c.AddTable(table) // so that there is one to delete
	c.DelTable(table)
	return &Table{c: c, table: c.AddTable(table)}, nil
}

func open() (*nftables.Conn, error) { return nftables.New(nftables.WithSockOptions(enlarge)) }

// enlarge makes a connection hold what many networks take, which goes in one piece.
func enlarge[C interface {
	SetWriteBuffer(bytes int) error
	SetReadBuffer(bytes int) error
}](c C) error {
	return errors.Join(c.SetWriteBuffer(32<<20), c.SetReadBuffer(4<<20))
}

// Flush has the kernel take the table.
func (t *Table) Flush() error {
	if t.err != nil {
		return t.err
	}
	return t.c.Flush()
}

// fail keeps the first error of what could not even be written.
func (t *Table) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

// Chain begins a chain, which rules are added to until the next one.
func (t *Table) Chain(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority,
	policy nftables.ChainPolicy) {
	t.last = t.c.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: typ, Hooknum: hook, Priority: &priority, Policy: &policy})
}

// Rule adds a rule to the chain that was begun last: where all that comes before holds, the last parts are done.
func (t *Table) Rule(parts ...Match) {
	t.c.AddRule(&nftables.Rule{Table: t.table, Chain: t.last, Exprs: slices.Concat(parts...)})
}

// Counter makes a counter, and returns what counts by it.
func (t *Table) Counter(name string) Match {
	t.c.AddObj(&nftables.CounterObj{Table: t.table, Name: name})
	return Match{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}

// Networks makes a set for each family that there are networks of, whose names end in 4 and 6. It returns what holds of packets one
// of whose ends is in there, a match for each set.
func (t *Table) Networks(name string, networks []netip.Prefix) func(End) []Match {
	sets := map[byte]*nftables.Set{}
	for _, nf := range families {
		var b netipx.IPSetBuilder
		for _, p := range networks {
			if familyOf(p.Addr()) == nf {
				b.AddPrefix(p)
			}
		}
		all, err := b.IPSet()
		if t.fail(err); err != nil || len(all.Ranges()) == 0 {
			continue
		}
		set := &nftables.Set{Table: t.table, Name: name + suffix(nf), KeyType: addressType(nf), Interval: true}
		var elements []nftables.SetElement
		for _, r := range all.Ranges() {
			elements = append(elements, nftables.SetElement{Key: r.From().AsSlice()})
			if end := r.To().Next(); end.IsValid() { // an interval that reaches the last address has no end
				elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
			}
		}
		t.add(set, elements)
		sets[nf] = set
	}
	return func(e End) (holds []Match) {
		for _, nf := range families {
			if set := sets[nf]; set != nil {
				holds = append(holds, append(Family(nf), e.load(nf, 1), lookup(set, 1)))
			}
		}
		return holds
	}
}

// OnLink makes two sets, whose names end in 4 and 6. It returns what holds of packets that go to a destination in a network without
// a router: the next hop is the destination. No expression compares two values of a packet, but a set can: what is put in is
// (destination, destination), what is looked up (destination, next hop).
func (t *Table) OnLink(name string) func(netip.Prefix) Match {
	sets := map[byte]*nftables.Set{}
	for _, nf := range families {
		sets[nf] = &nftables.Set{Table: t.table, Name: name + suffix(nf),
			KeyType: nftables.MustConcatSetType(addressType(nf), addressType(nf)), Concatenation: true,
			Dynamic: true, HasTimeout: true, Timeout: time.Minute, Size: 1 << 16}
		t.add(sets[nf], nil)
	}
	return func(p netip.Prefix) Match {
		nf, key, second := IPv4, expr.RtNexthop4, uint32(unix.NFT_REG32_01)
		if p.Addr().Is6() {
			nf, key, second = IPv6, expr.RtNexthop6, unix.NFT_REG32_04
		}
		set := sets[nf]
		return append(Address(Dst, p),
			Dst.load(nf, unix.NFT_REG32_00),
			Dst.load(nf, second),
			&expr.Dynset{SrcRegKey: unix.NFT_REG32_00, SetName: set.Name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_ADD},
			&expr.Rt{Register: second, Key: key},
			lookup(set, unix.NFT_REG32_00))
	}
}

// Over makes a set of how many connections each source has, and returns what holds of a packet of the family whose source has more
// than most. It is to be asked of packets that begin a connection.
func (t *Table) Over(name string, nf byte, most uint32) Match {
	set := &nftables.Set{Table: t.table, Name: name, KeyType: addressType(nf), Dynamic: true, Size: 1 << 16}
	t.add(set, nil)
	const over = 1 // NFT_CONNLIMIT_F_INV
	return Match{Src.load(nf, 1), &expr.Dynset{SrcRegKey: 1, SetName: set.Name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_ADD,
		Exprs: []expr.Any{&expr.Connlimit{Count: most, Flags: over}}}}
}

// Interfaces makes a set of interfaces. It returns what holds of packets that come in by one of them, and that go out by one.
func (t *Table) Interfaces(name string, interfaces []string) (in, out Match) {
	set := &nftables.Set{Table: t.table, Name: name, KeyType: nftables.TypeIFName}
	var elements []nftables.SetElement
	for _, i := range interfaces {
		elements = append(elements, nftables.SetElement{Key: padded(i)})
	}
	t.add(set, elements)
	return Match{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, lookup(set, 1)},
		Match{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, lookup(set, 1)}
}

func (t *Table) add(set *nftables.Set, elements []nftables.SetElement) {
	t.fail(t.c.AddSet(set, nil))
	for some := range slices.Chunk(elements, 500) { // a message's attribute holds 64 KiB
		t.fail(t.c.SetAddElements(set, some))
	}
}

func lookup(set *nftables.Set, register uint32) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetName: set.Name, SetID: set.ID}
}

func suffix(nf byte) string {
	if nf == IPv6 {
		return "6"
	}
	return "4"
}

func addressType(nf byte) nftables.SetDatatype {
	if nf == IPv6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

// Counted reads a counter of a table inet; fs.ErrNotExist says that there is none.
func Counted(table, name string) (packets, bytes uint64, err error) {
	c, err := open()
	if err != nil {
		return 0, 0, err
	}
	obj, err := c.GetObject(&nftables.CounterObj{Table: &nftables.Table{Name: table, Family: nftables.TableFamilyINet}, Name: name})
	if err != nil {
		return 0, 0, fmt.Errorf("firewall: counter: %w", err)
	}
	counter, ok := obj.(*nftables.CounterObj)
	if !ok {
		return 0, 0, fmt.Errorf("firewall: counter: %w", fs.ErrNotExist)
	}
	return counter.Packets, counter.Bytes, nil
}

// Remove removes the tables of that name, and returns of which families, inet and arp, there were any.
func Remove(name string) (removed []nftables.TableFamily, err error) {
	c, err := open()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	for _, t := range tables {
		if t.Name == name && (t.Family == nftables.TableFamilyINet || t.Family == nftables.TableFamilyARP) {
			c.DelTable(t)
			removed = append(removed, t.Family)
		}
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	return removed, nil
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
