//go:build !windows && (!unix || android)

package dnsclient

import "github.com/godwit-vpn/godwit/internal/transport"

// System cannot be known here.
func System() ([]Resolver, error) {
	return nil, transport.Reason("the system does not say which resolver it uses: name one in the settings")
}
