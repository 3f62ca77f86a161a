package hostnet

import (
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/lan"
	"github.com/godwit-vpn/godwit/internal/hostnet/nft"
)

// The firewall, as nft(8) would list it. What is in <> depends on what is desired; LAN and direct stand for a rule or
// two per network or family.
//
//	table inet godwit {
//	  counter blocked
//	  set direct4, direct6
//	  set onlink4, onlink6                 see nft.Table.OnLink
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

// blockedCounter counts what would have left outside of the tunnel.
const blockedCounter = "blocked"

// blocked reads the counter; fs.ErrNotExist says that there is no firewall of ours.
func blocked() (packets, bytes uint64, err error) { return nft.Counted(tableName, blockedCounter) }

// removeFirewall opens the kill switch.
func removeFirewall() (undone []string, err error) {
	removed, err := nft.Remove(tableName)
	for _, family := range removed {
		if family == nftables.TableFamilyINet {
			undone = append(undone, "removed the kill switch: firewall table inet "+tableName)
		} else {
			undone = append(undone, "removed firewall table arp "+tableName)
		}
	}
	return undone, err
}

// loadNeighbours puts the table arp in the place of the one that is there. Some kernels are made without it.
func loadNeighbours(d Desired) error {
	fw, err := nft.Replace(tableName, nftables.TableFamilyARP)
	if err != nil {
		return err
	}
	fw.Chain("input", nftables.ChainTypeFilter, nftables.ChainHookRef(0), 0, nftables.ChainPolicyAccept) // NF_ARP_IN
	for _, p := range d.Addrs {
		if d.Tun != "" && is4(p) {
			fw.Rule(nft.ARPTarget(p.Addr()), nft.Drop)
		}
	}
	fw.Rule(nft.SetMark(Mark))
	if err := fw.Flush(); !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}

// loadFirewall puts the table inet in the place of the one that is there.
func loadFirewall(d Desired) error {
	fw, err := nft.Replace(tableName, nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	count := fw.Counter(blockedCounter)
	direct := fw.Networks("direct", d.Direct)
	onLink := fw.OnLink("onlink")

	if d.Tun != "" {
		fw.Chain("spoofed", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300, nftables.ChainPolicyAccept)
		for _, p := range d.Addrs {
			fw.Rule(nft.NotIIF("lo"), nft.NotIIF(d.Tun), nft.Address(nft.Dst, hostOf(p)), nft.Drop)
		}
	}

	fw.Chain("answers", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150, nftables.ChainPolicyAccept)
	fw.Rule(nft.ConnectionMarked(Mark), nft.SetMark(Mark))

	fw.Chain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0, nftables.ChainPolicyDrop)
	fw.Rule(nft.OIF("lo"), nft.Accept)
	if d.Tun != "" {
		fw.Rule(nft.OIF(d.Tun), nft.Accept)
	}
	fw.Rule(nft.Marked(Mark), nft.SetConnectionMark(Mark), nft.Accept)
	udp, icmp6, system := nft.Protocol(unix.IPPROTO_UDP), nft.Protocol(unix.IPPROTO_ICMPV6), nft.UserBelow(systemUsers)
	fw.Rule(nft.Family(nft.IPv4), udp, nft.Port(nft.Src, 68), nft.Port(nft.Dst, 67), system, nft.Accept)
	fw.Rule(nft.Family(nft.IPv6), udp, nft.Port(nft.Src, 546), nft.Port(nft.Dst, 547), system, nft.Accept)
	fw.Rule(nft.Family(nft.IPv6), icmp6, nft.ICMPType(133, 136), nft.HopLimit(255), nft.Accept)
	for _, p := range d.Addrs {
		fw.Rule(nft.Address(nft.Dst, p), count, nft.Drop)
	}
	for _, there := range direct(nft.Dst) {
		fw.Rule(there, nft.Accept)
	}
	if d.LAN {
		noNames(fw, count)
		for _, p := range lan.Private {
			fw.Rule(onLink(p), nft.Accept)
		}
		for _, p := range lan.Everybody {
			fw.Rule(nft.Address(nft.Dst, p), nft.Accept)
		}
	}
	fw.Rule(nft.Family(nft.IPv4), nft.Protocol(unix.IPPROTO_IGMP), nft.Drop)
	fw.Rule(nft.Family(nft.IPv6), icmp6, nft.ICMPType(130, 132), nft.Drop)
	fw.Rule(nft.Family(nft.IPv6), icmp6, nft.ICMPType(143, 143), nft.Drop)
	fw.Rule(count, nft.Drop)

	fw.Chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0, nftables.ChainPolicyAccept)
	if !d.Router {
		if d.Tun != "" {
			fw.Rule(nft.IIF(d.Tun), count, nft.Drop)
		}
		return fw.Flush()
	}
	if d.Tun != "" {
		fw.Rule(nft.OIF(d.Tun), nft.Accept)
		fw.Rule(nft.IIF(d.Tun), nft.Tracked(nft.Answers), nft.Accept)
	}
	for _, p := range d.Addrs {
		fw.Rule(nft.Address(nft.Dst, p), count, nft.Drop)
	}
	for _, e := range []nft.End{nft.Dst, nft.Src} {
		for _, there := range direct(e) {
			fw.Rule(there, nft.Accept)
		}
	}
	if d.LAN {
		noNames(fw, count)
		for _, to := range lan.Private {
			for _, from := range lan.Private {
				if is6(to) == is6(from) {
					fw.Rule(nft.Address(nft.Src, from), onLink(to), nft.Accept)
				}
			}
		}
	}
	fw.Rule(count, nft.Drop)
	if d.Tun != "" {
		fw.Chain("mss", nftables.ChainTypeFilter, nftables.ChainHookForward, -150, nftables.ChainPolicyAccept)
		for _, by := range []nft.Match{nft.IIF(d.Tun), nft.OIF(d.Tun)} {
			fw.Rule(by, nft.Protocol(unix.IPPROTO_TCP), nft.FitSegments())
		}
		fw.Chain("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100, nftables.ChainPolicyAccept)
		for _, nf := range []byte{nft.IPv4, nft.IPv6} {
			var foreign nft.Match
			for _, p := range d.Addrs {
				if is6(p) == (nf == nft.IPv6) {
					foreign = append(foreign, nft.NotAddress(nft.Src, hostOf(p))...)
				}
			}
			if len(foreign) > 0 {
				fw.Rule(nft.OIF(d.Tun), nft.Family(nf), foreign, nft.Masquerade)
			}
		}
	}
	return fw.Flush()
}

// noNames drops what asks for names.
func noNames(fw *nft.Table, count nft.Match) {
	for _, p := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		for _, n := range lan.NamePorts {
			fw.Rule(nft.Protocol(p), nft.Port(nft.Dst, n), count, nft.Drop)
		}
	}
}

// hostOf is the network of a prefix's address alone.
func hostOf(p netip.Prefix) netip.Prefix { return netip.PrefixFrom(p.Addr(), p.Addr().BitLen()) }
