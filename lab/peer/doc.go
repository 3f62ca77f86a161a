// Package peer runs real VPN programs between two hosts of the lab: where each program comes from, how it is configured,
// and how its two ends are started and stopped. They are the positive controls of a firewall's rules and the bench's
// competitors: separate programs, never linked in.
//
// To add one, write a file with a type that is a Peer and put its Entry into the list in Entries.
package peer
