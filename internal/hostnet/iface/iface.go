// Package iface makes a TUN: an interface whose packets this process reads and writes. On Linux it gives it its addresses, too; on other
// systems their own tools do that.
package iface
