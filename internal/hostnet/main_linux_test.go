package hostnet

import (
	"testing"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }
