package forward_test

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/egress/forward"
	"github.com/godwit-vpn/godwit/internal/hostnet/forwarding"
	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// envHold makes the test binary a gateway's process that forwards until it is killed. Its value is the state directory.
const envHold = "FORWARD_TEST_HOLD"

func TestMain(m *testing.M) {
	if state := os.Getenv(envHold); state != "" {
		if _, err := forwarding.Open(state, network); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("ready")
		select {}
	}
	netnstest.Main(m)
}

var network = forwarding.Config{Own4: egress.Hop4, Own6: egress.Hop6, Probe4: forward.Probe4, Probe6: forward.Probe6}

var (
	anna4, anna6 = netip.MustParseAddr("100.64.7.7"), netip.MustParseAddr("fd00:7::7")
	bert4, bert6 = netip.MustParseAddr("100.64.8.8"), netip.MustParseAddr("fd00:7::8")
	gate4, gate6 = netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8:2::1/64")
	site4, site6 = netip.MustParsePrefix("192.0.2.9/24"), netip.MustParsePrefix("2001:db8:2::9/64")
	far4, far6   = netip.MustParseAddr("203.0.113.5"), netip.MustParseAddr("2001:db8:5::5") // behind site
)
