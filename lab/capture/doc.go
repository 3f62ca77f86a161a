// Package capture notes the frames that pass an interface of one of the lab's hosts, and writes them as pcap files. It only
// listens: what the host sends and receives is the same with it and without.
package capture
