//go:build !windows && (!unix || android)

package dns

import "github.com/godwit-vpn/godwit/internal/transport"

// systemResolvers cannot be known here.
func systemResolvers() ([]Resolver, error) {
	return nil, transport.Reason("the system does not say which resolver it uses: name one in the settings")
}
