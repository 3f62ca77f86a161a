package forwarding

import (
	"net/netip"
	"path"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/godwit-vpn/godwit/internal/hostnet/nft"
	"github.com/godwit-vpn/godwit/internal/hostnet/sysctl"
)

const (
	tableName = "godwit-gateway"

	// mostFlows is what a session may have at a time: a machine of 1 GB remembers 65,536.
	mostFlows = 4096
)

// loadFirewall puts the table in the place of the one that is there, in one transaction. <> depends on how the machine was.
//
//	table inet godwit-gateway {
//	  set flows4, flows6                           how many each session has
//	  set closed4, closed6                         interfaces that did not forward before we came
//	  chain input { input filter
//	    iifname godwit-gw*: drop                   sessions do not reach this machine
//	  }
//	  chain output { output filter
//	    oifname godwit-gw*: accept ICMP, answers; drop the rest   nor does it reach them, but for what the kernel has to tell
//	  }
//	  chain forward { forward filter
//	    <Probe, through the TUN and back>: accept
//	    iifname godwit-gw*, oifname godwit-gw*: drop               nor they one another
//	    iifname godwit-gw*, new; add to flows, over mostFlows of the source's: drop
//	    iifname godwit-gw*: accept tracked; drop the rest          which would leave under its inner address
//	    oifname godwit-gw*: accept answers; drop the rest
//	    <from closed to closed>: drop                              we have turned forwarding on for sessions alone
//	  }
//	  chain masquerade { postrouting nat
//	    iifname godwit-gw*: snat to <Source>, or else masquerade
//	  }
//	}
func loadFirewall(cfg Config, changed sysctl.Changed) error {
	fw, err := nft.Replace(tableName, nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	in, out := nft.IIFBegins(tunName), nft.OIFBegins(tunName)

	fw.Chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0, nftables.ChainPolicyAccept)
	fw.Rule(in, nft.Drop)

	fw.Chain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0, nftables.ChainPolicyAccept)
	fw.Rule(out, nft.Protocol(unix.IPPROTO_ICMP), nft.Accept)
	fw.Rule(out, nft.Protocol(unix.IPPROTO_ICMPV6), nft.Accept)
	fw.Rule(out, nft.Tracked(nft.Answers), nft.Accept)
	fw.Rule(out, nft.Drop)

	families := []struct {
		nf          byte
		flows       string
		all, closed string // the setting that turns all of forwarding on, and a set
		source      netip.Addr
	}{
		{nft.IPv4, "flows4", sysctl.Forwarding4, "closed4", cfg.Source4},
		{nft.IPv6, "flows6", sysctl.Forwarding6, "closed6", cfg.Source6},
	}
	fw.Chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0, nftables.ChainPolicyAccept)
	for _, p := range []netip.Prefix{cfg.Probe4, cfg.Probe6} {
		fw.Rule(in, out, nft.Address(nft.Src, p), nft.Address(nft.Dst, p), nft.Accept)
	}
	fw.Rule(in, out, nft.Drop)
	for _, f := range families {
		fw.Rule(in, nft.Family(f.nf), nft.Tracked(nft.New), fw.Over(f.flows, f.nf, mostFlows), nft.Drop)
	}
	fw.Rule(in, nft.Tracked(nft.Answers|nft.New), nft.Accept)
	fw.Rule(in, nft.Drop)
	fw.Rule(out, nft.Tracked(nft.Answers), nft.Accept)
	fw.Rule(out, nft.Drop)
	for _, f := range families {
		if names := closedBefore(changed, f.all); len(names) > 0 {
			from, to := fw.Interfaces(f.closed, names)
			fw.Rule(nft.Family(f.nf), from, to, nft.Drop)
		}
	}

	fw.Chain("masquerade", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, 100, nftables.ChainPolicyAccept)
	for _, f := range families {
		hide := nft.Masquerade
		if f.source.IsValid() {
			hide = nft.SNAT(f.source)
		}
		fw.Rule(in, nft.Family(f.nf), hide)
	}
	return fw.Flush()
}

// closedBefore lists the interfaces that did not forward before we had the machine do it; none if it forwarded already.
func closedBefore(changed sysctl.Changed, all string) (names []string) {
	for _, s := range changed {
		if s.Name == all && s.Before != "0" {
			return nil
		}
		name := path.Base(path.Dir(s.Name))
		if path.Dir(path.Dir(s.Name)) == path.Dir(path.Dir(all)) && path.Base(s.Name) == "forwarding" && s.Before == "0" &&
			!slices.Contains([]string{"all", "default", "lo"}, name) {
			names = append(names, name)
		}
	}
	return names
}
