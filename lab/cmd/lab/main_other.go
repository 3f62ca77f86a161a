//go:build !linux

// Command lab needs Linux: it lives in network namespaces.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "lab: network namespaces are needed, and only Linux has them")
	os.Exit(1)
}
