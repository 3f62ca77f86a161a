package hostnet

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
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
)

// The firewall, as nft(8) would list it. What is in <> depends on what is desired; LAN and direct stand for a rule or
// two per network or family.
//
//	table inet godwit {
//	  counter blocked
//	  set direct4, direct6
//	  set onlink4, onlink6                 see onLink
//
//	  chain spoofed { prerouting raw       whoever is not behind the TUN has no business with its addresses (CVE-2019-14899)
//	    iifname != lo, <Tun>; daddr <Addrs>: drop
//	  }
//	  chain answers { prerouting mangle    an answer to a marked socket is marked: src_valid_mark needs it
//	    ct mark Mark: meta mark set Mark
//	  }
//	  chain output { output filter, policy drop
//	    oifname lo, <Tun>: accept
//	    meta mark Mark: ct mark set Mark, accept
//	    udp 68 to 67, 546 to 547; by a user of the system's: accept
//	    icmpv6 133 to 136; hop limit 255: accept
//	    daddr <Addrs>: counter blocked, drop   what is said inside of the machine
//	    <direct>: accept
//	    <LAN; not DNS, DoT, LLMNR; on a link>: accept
//	    IGMP, MLD: drop                    the kernel's own, whoever says what
//	    counter blocked, drop
//	  }
//	  chain forward { forward filter, policy accept
//	    <without Router> iifname <Tun>: counter blocked, drop
//	    <with Router>
//	    oifname <Tun>: accept
//	    iifname <Tun>; answers: accept
//	    daddr <Addrs>: counter blocked, drop
//	    <direct, either way>: accept
//	    <LAN; not DNS; on a link>: accept
//	    counter blocked, drop
//	  }
//	  chain mss { forward mangle }         <with Router> TCP's segments fit the way's MTU
//	  chain masquerade { postrouting }     <with Router> what leaves by the TUN has its address
//	}
//	table arp godwit {
//	  chain input { input filter
//	    target <Addrs>: drop               nor may a neighbour learn whose the TUN's addresses are
//	    meta mark set Mark                 a strict reverse path filter holds for questions too: whom is it to answer?
//	  }
//	}
const tableName = "godwit"

// systemUsers are below this: who renews a lease is root, or a user made for that.
const systemUsers = 1000

func ourTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

func newConn() (*nftables.Conn, error) { return nftables.New(nftables.WithSockOptions(enlarge)) }

// enlarge makes a connection hold what many direct networks take, which goes in one piece.
func enlarge[C interface {
	SetWriteBuffer(bytes int) error
	SetReadBuffer(bytes int) error
}](c C) error {
	return errors.Join(c.SetWriteBuffer(32<<20), c.SetReadBuffer(4<<20))
}

// blocked reads the counter; fs.ErrNotExist says that there is no firewall of ours.
func blocked() (packets, bytes uint64, err error) {
	c, err := newConn()
	if err != nil {
		return 0, 0, err
	}
	obj, err := c.GetObject(&nftables.CounterObj{Table: ourTable(), Name: "blocked"})
	if err != nil {
		return 0, 0, fmt.Errorf("firewall: counter: %w", err)
	}
	counter, ok := obj.(*nftables.CounterObj)
	if !ok {
		return 0, 0, fmt.Errorf("firewall: counter: %w", fs.ErrNotExist)
	}
	return counter.Packets, counter.Bytes, nil
}

// removeFirewall opens the kill switch.
func removeFirewall() (undone []string, err error) {
	c, err := newConn()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	for _, t := range tables {
		if t.Name != tableName {
			continue
		}
		switch t.Family {
		case nftables.TableFamilyINet:
			undone = append(undone, "removed the kill switch: firewall table inet "+tableName)
			c.DelTable(t)
		case nftables.TableFamilyARP:
			undone = append(undone, "removed firewall table arp "+tableName)
			c.DelTable(t)
		}
	}
	if err := c.Flush(); err != nil {
		return nil, fmt.Errorf("firewall: %w", err)
	}
	return undone, nil
}

// loadNeighbours puts the table arp in the place of the one that is there. Some kernels are made without it.
func loadNeighbours(d Desired) error {
	c, err := newConn()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyARP}
	c.AddTable(table)
	c.DelTable(table)
	fw := &firewall{c: c, table: c.AddTable(table)}
	fw.chain("input", nftables.ChainTypeFilter, nftables.ChainHookRef(0), 0, nftables.ChainPolicyAccept) // NF_ARP_IN
	for _, p := range d.Addrs {
		if d.Tun != "" && is4(p) {
			const target = 24 // RFC 826, on Ethernet
			fw.rule(match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: target, Len: 4},
				equal(p.Addr().AsSlice())}, verdict(expr.VerdictDrop))
		}
	}
	fw.rule(setMark)
	if err := fw.flush(); !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}

// loadFirewall puts the table in the place of the one that is there, in one transaction: no packet sees neither, or half.
func loadFirewall(d Desired) error {
	c, err := newConn()
	if err != nil {
		return err
	}
	c.AddTable(ourTable()) // so that there is one to delete
	c.DelTable(ourTable())
	fw := &firewall{c: c, table: c.AddTable(ourTable()), sets: map[string]*nftables.Set{}}
	c.AddObj(&nftables.CounterObj{Table: fw.table, Name: "blocked"})
	fw.setDirect("direct4", nftables.TypeIPAddr, d.Direct, is4)
	fw.setDirect("direct6", nftables.TypeIP6Addr, d.Direct, is6)
	fw.setOnLink("onlink4", nftables.TypeIPAddr)
	fw.setOnLink("onlink6", nftables.TypeIP6Addr)

	if d.Tun != "" {
		fw.chain("spoofed", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300, nftables.ChainPolicyAccept)
		for _, p := range d.Addrs {
			fw.rule(iif(expr.CmpOpNeq, "lo"), iif(expr.CmpOpNeq, d.Tun), address(dst, hostOf(p)),
				verdict(expr.VerdictDrop))
		}
	}

	fw.chain("answers", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150, nftables.ChainPolicyAccept)
	fw.rule(match{&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, equal(native32(Mark))}, setMark)

	fw.chain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0, nftables.ChainPolicyDrop)
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)
	count := match{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: "blocked"}}
	fw.rule(oif("lo"), accept)
	if d.Tun != "" {
		fw.rule(oif(d.Tun), accept)
	}
	fw.rule(match{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, equal(native32(Mark)),
		&expr.Immediate{Register: 1, Data: native32(Mark)},
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1}}, accept)
	system := match{&expr.Meta{Key: expr.MetaKeySKUID, Register: 1},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
		&expr.Cmp{Op: expr.CmpOpLt, Register: 1, Data: binary.BigEndian.AppendUint32(nil, systemUsers)}}
	fw.rule(family(unix.NFPROTO_IPV4), protocol(unix.IPPROTO_UDP), port(src, 68), port(dst, 67), system, accept)
	fw.rule(family(unix.NFPROTO_IPV6), protocol(unix.IPPROTO_UDP), port(src, 546), port(dst, 547), system, accept)
	fw.rule(family(unix.NFPROTO_IPV6), protocol(unix.IPPROTO_ICMPV6), icmpType(133, 136),
		match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 7, Len: 1}, equal([]byte{255})}, accept)
	for _, p := range d.Addrs {
		fw.rule(address(dst, p), count, drop)
	}
	fw.direct(dst, accept)
	if d.LAN {
		fw.noNames(count, drop)
		for _, p := range lan.Private {
			fw.rule(address(dst, p), fw.onLink(p), accept)
		}
		for _, p := range lan.Everybody {
			fw.rule(address(dst, p), accept)
		}
	}
	fw.rule(family(unix.NFPROTO_IPV4), protocol(unix.IPPROTO_IGMP), drop)
	fw.rule(family(unix.NFPROTO_IPV6), protocol(unix.IPPROTO_ICMPV6), icmpType(130, 132), drop)
	fw.rule(family(unix.NFPROTO_IPV6), protocol(unix.IPPROTO_ICMPV6), icmpType(143, 143), drop)
	fw.rule(count, drop)

	fw.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0, nftables.ChainPolicyAccept)
	if !d.Router {
		if d.Tun != "" {
			fw.rule(iif(expr.CmpOpEq, d.Tun), count, drop)
		}
		return fw.flush()
	}
	if d.Tun != "" {
		fw.rule(oif(d.Tun), accept)
		const answers = expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED
		fw.rule(iif(expr.CmpOpEq, d.Tun), match{&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(answers), Xor: native32(0)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native32(0)}}, accept)
	}
	for _, p := range d.Addrs {
		fw.rule(address(dst, p), count, drop)
	}
	fw.direct(dst, accept)
	fw.direct(src, accept)
	if d.LAN {
		fw.noNames(count, drop)
		for _, to := range lan.Private {
			for _, from := range lan.Private {
				if to.Addr().BitLen() == from.Addr().BitLen() {
					fw.rule(address(src, from), address(dst, to), fw.onLink(to), accept)
				}
			}
		}
	}
	fw.rule(count, drop)
	if d.Tun != "" {
		fw.chain("mss", nftables.ChainTypeFilter, nftables.ChainHookForward, -150, nftables.ChainPolicyAccept)
		for _, by := range []match{iif(expr.CmpOpEq, d.Tun), oif(d.Tun)} {
			fw.rule(by, protocol(unix.IPPROTO_TCP), fitSegments())
		}
		fw.chain("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100, nftables.ChainPolicyAccept)
		for _, nf := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
			var foreign match
			for _, p := range d.Addrs {
				if is6(p) == (nf == unix.NFPROTO_IPV6) {
					foreign = append(foreign, addressIs(expr.CmpOpNeq, src, hostOf(p))...)
				}
			}
			if len(foreign) > 0 {
				fw.rule(oif(d.Tun), family(nf), foreign, match{&expr.Masq{}})
			}
		}
	}
	return fw.flush()
}

// match is a part of a rule: a condition, or something done.
type match = []expr.Any

// firewall is a table that is being written.
type firewall struct {
	c     *nftables.Conn
	table *nftables.Table
	last  *nftables.Chain
	sets  map[string]*nftables.Set
	err   error
}

// chain begins a chain, which rules are added to until the next one.
func (fw *firewall) chain(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority nftables.ChainPriority,
	policy nftables.ChainPolicy) {
	fw.last = fw.c.AddChain(&nftables.Chain{Name: name, Table: fw.table, Type: typ, Hooknum: hook,
		Priority: &priority, Policy: &policy})
}

func (fw *firewall) rule(parts ...match) {
	fw.c.AddRule(&nftables.Rule{Table: fw.table, Chain: fw.last, Exprs: slices.Concat(parts...)})
}

// setDirect makes the set of the direct networks of one family.
func (fw *firewall) setDirect(name string, typ nftables.SetDatatype, direct []netip.Prefix, is func(netip.Prefix) bool) {
	direct = slices.DeleteFunc(slices.Clone(direct), func(p netip.Prefix) bool { return !is(p) })
	if len(direct) == 0 {
		return
	}
	set := &nftables.Set{Table: fw.table, Name: name, KeyType: typ, Interval: true}
	fw.add(set)
	var elements []nftables.SetElement
	for _, i := range intervals(direct) {
		elements = append(elements, nftables.SetElement{Key: i.first.AsSlice()})
		if end := i.last.Next(); end.IsValid() { // an interval that reaches the last address has no end
			elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	for some := range slices.Chunk(elements, 500) { // a message's attribute holds 64 KiB
		fw.fail(fw.c.SetAddElements(set, some))
	}
}

// setOnLink makes the set that onLink needs.
func (fw *firewall) setOnLink(name string, typ nftables.SetDatatype) {
	fw.add(&nftables.Set{Table: fw.table, Name: name, KeyType: nftables.MustConcatSetType(typ, typ), Concatenation: true,
		Dynamic: true, HasTimeout: true, Timeout: time.Minute, Size: 1 << 16})
}

func (fw *firewall) add(set *nftables.Set) {
	fw.fail(fw.c.AddSet(set, nil))
	fw.sets[set.Name] = set
}

// direct does something with packets whose address is one of a direct network.
func (fw *firewall) direct(which end, do match) {
	for _, nf := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		name := "direct4"
		if nf == unix.NFPROTO_IPV6 {
			name = "direct6"
		}
		if set := fw.sets[name]; set != nil {
			fw.rule(family(nf), match{which.load(nf, 1), &expr.Lookup{SourceRegister: 1, SetName: name, SetID: set.ID}}, do)
		}
	}
}

// noNames does something with what asks for names.
func (fw *firewall) noNames(do ...match) {
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		for _, n := range lan.NamePorts {
			fw.rule(append([]match{protocol(p), port(dst, n)}, do...)...)
		}
	}
}

// onLink holds of packets that go to a destination in p without a router: the next hop is the destination. So a route
// to somebody's private network that a DHCP server gave us leads nowhere. No expression compares two values of a packet,
// but a set can: what is put in is (destination, destination), what is looked up (destination, next hop).
func (fw *firewall) onLink(p netip.Prefix) match {
	nf, name, key, second := byte(unix.NFPROTO_IPV4), "onlink4", expr.RtNexthop4, uint32(unix.NFT_REG32_01)
	if is6(p) {
		nf, name, key, second = unix.NFPROTO_IPV6, "onlink6", expr.RtNexthop6, unix.NFT_REG32_04
	}
	set := fw.sets[name]
	return match{
		dst.load(nf, unix.NFT_REG32_00),
		dst.load(nf, second),
		&expr.Dynset{SrcRegKey: unix.NFT_REG32_00, SetName: name, SetID: set.ID, Operation: unix.NFT_DYNSET_OP_ADD},
		&expr.Rt{Register: second, Key: key},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: name, SetID: set.ID},
	}
}

// fail keeps the first error of what could not even be written.
func (fw *firewall) fail(err error) {
	if fw.err == nil {
		fw.err = err
	}
}

// flush has the kernel take the table.
func (fw *firewall) flush() error {
	if fw.err != nil {
		return fw.err
	}
	return fw.c.Flush()
}

// end is one of a packet's two ends.
type end struct{ in4, in6, port uint32 } // offsets

var src, dst = end{in4: 12, in6: 8, port: 0}, end{in4: 16, in6: 24, port: 2}

// load reads the end's address.
func (e end) load(nf byte, register uint32) expr.Any {
	if nf == unix.NFPROTO_IPV4 {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: e.in4, Len: 4}
	}
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: e.in6, Len: 16}
}

// address holds of packets with an end in p.
func address(which end, p netip.Prefix) match {
	nf := byte(unix.NFPROTO_IPV4)
	if is6(p) {
		nf = unix.NFPROTO_IPV6
	}
	return append(family(nf), addressIs(expr.CmpOpEq, which, p)...)
}

// addressIs compares an end's address with a network of the packet's family.
func addressIs(op expr.CmpOp, which end, p netip.Prefix) match {
	nf, p := byte(unix.NFPROTO_IPV4), p.Masked()
	if is6(p) {
		nf = unix.NFPROTO_IPV6
	}
	size := p.Addr().BitLen() / 8
	return match{which.load(nf, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: maskOf(p), Xor: make([]byte, size)},
		&expr.Cmp{Op: op, Register: 1, Data: p.Addr().AsSlice()}}
}

func family(nf byte) match {
	return match{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{nf})}
}

func protocol(p byte) match {
	return match{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{p})}
}

func port(which end, n uint16) match {
	return match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: which.port, Len: 2},
		equal(binary.BigEndian.AppendUint16(nil, n))}
}

func icmpType(first, last byte) match {
	return match{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Len: 1},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: []byte{first}, ToData: []byte{last}}}
}

var setMark = match{&expr.Immediate{Register: 1, Data: native32(Mark)},
	&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}

// fitSegments lowers the size that a TCP's SYN offers to what the ways there and back carry.
func fitSegments() match {
	const syn, rst, tcpFlags, maxSegment = 2, 4, 13, 2
	return match{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | rst}, Xor: []byte{0}},
		equal([]byte{syn}),
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 2, Size: 2},
		&expr.Exthdr{SourceRegister: 1, Type: maxSegment, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt},
	}
}

func iif(op expr.CmpOp, name string) match { return interfaceIs(expr.MetaKeyIIFNAME, op, name) }
func oif(name string) match                { return interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpEq, name) }

func interfaceIs(key expr.MetaKey, op expr.CmpOp, name string) match {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return match{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: padded}}
}

func verdict(kind expr.VerdictKind) match { return match{&expr.Verdict{Kind: kind}} }

func equal(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
