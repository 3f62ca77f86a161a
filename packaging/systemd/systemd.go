// Package systemd holds the units that Godwit's program installs by itself. Those that a person installs are files beside
// them.
package systemd

import _ "embed"

// Client is godwit.service, as 'godwit service install' without flags installs it for /usr/local/bin/godwit.
//
//go:embed godwit.service
var Client string
