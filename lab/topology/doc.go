// Package topology makes a small world of network namespaces out of a short description: hosts inside a country, its
// firewalls in a row, and hosts outside. Every cable, route and interface is its own, and only addresses reserved for
// documentation are taken, so that nothing in it can be mistaken for, or reach, anything real.
//
//	client ─┬─ isp ─[metro]─[border]─ exchange ─┬─ gateway
//	dns ────┘                                   └─ site
//
// A description in text has one thing on a line: its kind, its name, its fields. What follows a # is a comment.
//
//	seed     7
//	inside   client 192.0.2.10 2001:db8:1::10
//	inside   dns 192.0.2.53
//	firewall metro delay=2ms rate=200mbit
//	firewall border delay=80ms jitter=5ms backward.loss=0.5%
//	outside  gateway 198.51.100.10 2001:db8:2::10
//	outside  site 203.0.113.80
//
// Firewalls stand in the order of their lines, the first next to isp. The fields of a firewall are those of a
// linkmodel.Direction by their names in JSON, for both directions, or after "forward." (inside to outside) or
// "backward." for one. Times are as in 1.5ms, rates in bit/s or with kbit, mbit or gbit, probabilities as 0.01 or 1%.
//
// Isp and exchange are routers, with addresses from the range for benchmarks. A firewall is none: it carries frames from
// one interface to the other as its link and its Box say, and has no address. Hosts speak the families that they have
// addresses of. TSO, GSO, GRO and checksum offload are off on all cables of firewalls.
package topology
