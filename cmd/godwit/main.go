// Command godwit is both ends of a tunnel across networks that block tunnels: the gateway outside and the client
// inside.
package main

import (
	"os"

	"github.com/godwit-vpn/godwit/internal/cli"
)

// version is set when a release is linked.
var version = "devel"

func main() { os.Exit(cli.Main(version)) }
