// Package topology makes four hosts, or five, out of network namespaces, wires them up, and lets processes be started in
// them. Nothing in it can reach a real interface: every namespace is new and has only the interfaces made here.
//
//	client ──────────── transit ──────────── gateway ──────────── target
//	10.77.1.2  10.77.1.1       10.77.2.1  10.77.2.2  10.77.3.1  10.77.3.2
//	     eth0  cl               gw        eth0       eth1       eth0
//
// Transit either routes as any router does (a clean path), or stays out of it while a linkmodel.Forwarder carries the
// frames from one side to the other. Addresses and routes are the same in both. There is no address translation: the
// target routes its answers back through the gateway. IPv6 is off. A fifth host, relay, can hang behind the gateway's.
package topology
