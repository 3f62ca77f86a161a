package e2e

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// TestLeaksAreSeen leaks on purpose, in each way that a test would fail for.
func TestLeaksAreSeen(t *testing.T) {
	w := newWorld(t)
	if seen := w.leaks(); seen != nil {
		t.Fatalf("leaks before there was anything to leak: %q", seen)
	}
	j := newJudge(t, w.middle, "client")
	targets := []string{webAddr}
	if w.ipv6 {
		targets = append(targets, webAddr6)
	}
	for _, addr := range targets {
		udp := w.client.listenUDP(t, ":0")
		to, err := net.ResolveUDPAddr("udp", net.JoinHostPort(addr, "9"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := udp.WriteTo([]byte("leak"), to); err != nil {
			t.Fatal(err)
		}
	}
	resolver, err := net.ResolveUDPAddr("udp", net.JoinHostPort(middleAddr, "53"))
	if err != nil {
		t.Fatal(err)
	}
	udp := w.client.listenUDP(t, ":0")
	if _, err := udp.WriteTo(question(t, 1, "site.test.", dnsmessage.TypeA), resolver); err != nil {
		t.Fatal(err)
	}
	_ = udp.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := udp.ReadFrom(make([]byte, 4096)); err != nil {
		t.Fatalf("the middle's resolver: %v", err)
	}
	seen := w.leaks()
	for _, want := range append(targets, "site.test.") {
		if !slices.ContainsFunc(seen, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("a leak to %s was not seen, only %q", want, seen)
		}
	}
	judged := strings.Join(j.found(), "\n")
	for _, want := range append(targets, "UDP to 53, 198.51.100.2 to "+middleAddr) {
		if !strings.Contains(judged, want) {
			t.Errorf("the judge did not see a leak to %s, only\n%s", want, judged)
		}
	}
	// These were meant.
	w.nft("flush set inet watch strays4\nflush set inet watch strays6")
	w.spy.forget()
}
