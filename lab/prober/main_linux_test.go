package prober

import (
	"flag"
	"testing"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// The tests run inside a sandbox that has nothing but a loopback of its own, where that can be made: real programs reach
// nobody from there.
func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // they wait far more than they compute; the command line is parsed later
	netnstest.Main(m)
}
