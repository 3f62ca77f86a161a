package scenario

import "net/netip"

// More hosts inside, for those who have several.
var (
	laptopAddr = netip.MustParseAddr("192.0.2.20")
	roamedAddr = netip.MustParseAddr("192.0.2.21") // the laptop's, in another network
	officeAddr = netip.MustParseAddr("192.0.2.30")
)
