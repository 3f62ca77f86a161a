// Package scenario puts ways across before firewalls and tells what became of them. A country is built anew for each cell of
// the table: its hosts, its firewall's boxes in a row, a banned and an allowed site, resolvers, a prober, and the program
// under test at both ends, driven as its user would.
//
// Everything runs in real time.
package scenario
