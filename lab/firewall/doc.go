// Package firewall is one box of a national firewall, for the lab's namespaces only: it parses what passes, keeps track of
// connections, and does what its rules say.
//
//	frame ─► parse ─► connection ─► block table ─► rules ─► on its way, or not
//	                  (who began,    (3-tuple,      │ │
//	                   what was      4-tuple,       │ └► a new block, here or at another box; the prober
//	                   read)         address, net)  └──► forged packets, either way
//
// An in-path box can drop and rewrite. An on-path box sees a copy: it can only add packets, which race with the real ones,
// and have another box drop for it. "Client" is whoever sent a connection's first packet, wherever that is; "inside" is
// the side of the Forwarder's first interface.
//
// The rules are in package rules, each with the measurement that it follows.
package firewall
