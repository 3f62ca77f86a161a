package hostnet

import (
	"os"
	"testing"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

// envHold makes the test binary a program that holds the machine's network until it is killed. Its value is the state
// directory.
const envHold = "HOSTNET_TEST_HOLD"

func TestMain(m *testing.M) {
	if state := os.Getenv(envHold); state != "" {
		hold(state)
	}
	netnstest.Main(m)
}
