// Package rules holds what the boxes of national firewalls were measured to do, a file each, with the measurement that it
// follows; package firewall runs them. Each is a struct of parameters as a profile sets them, and whatever was not measured
// is a parameter.
//
// Sources are cited as in the lab's documentation: author and year of the paper, or who reported it and where.
package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"

	"github.com/godwit-vpn/godwit/lab/firewall"
)

// Set is the rules of one box. The key in a profile is the rule's name; each may be there several times.
type Set struct {
	// A: addresses, names and the web.
	AddressBlock []*AddressBlock `toml:"address-block"`
	DNSInjection []*DNSInjection `toml:"dns-injection"`
	HTTPName     []*HTTPName     `toml:"http-name"`
	TLSName      []*TLSName      `toml:"tls-name"`
	ESNI         []*ESNI         `toml:"esni"`
	ECH          []*ECH          `toml:"ech"`
	QUICName     []*QUICName     `toml:"quic-name"`
	QUICVersion  []*QUICVersion  `toml:"quic-version"`

	// B: proxies and VPNs.
	FullyEncrypted   []*FullyEncrypted   `toml:"fully-encrypted"`
	EncryptedSizes   []*EncryptedSizes   `toml:"encrypted-sizes"`
	ShadowsocksFirst []*ShadowsocksFirst `toml:"shadowsocks-first"`
	OpenVPN          []*OpenVPN          `toml:"openvpn"`
	WireGuard        []*WireGuard        `toml:"wireguard"`
	IPsec            []*IPsec            `toml:"ipsec"`
	IPProtocol       []*IPProtocol       `toml:"ip-protocol"`
	PPTP             []*PPTP             `toml:"pptp"`
	L2TP             []*L2TP             `toml:"l2tp"`
	SSTP             []*SSTP             `toml:"sstp"`
	SSH              []*SSH              `toml:"ssh"`
	Tor              []*Tor              `toml:"tor"`
	Obfs4            []*Obfs4            `toml:"obfs4"`
	TLSFingerprint   []*TLSFingerprint   `toml:"tls-fingerprint"`
	DTLSFingerprint  []*DTLSFingerprint  `toml:"dtls-fingerprint"`
	TLSInTLS         []*TLSInTLS         `toml:"tls-in-tls"`
	EncapsulatedTCP  []*EncapsulatedTCP  `toml:"encapsulated-tcp"`
	RTTDifference    []*RTTDifference    `toml:"rtt-difference"`
	FixedRate        []*FixedRate        `toml:"fixed-rate"`
	Accumulation     []*Accumulation     `toml:"accumulation"` // after those that it counts
	Subscriber       []*Subscriber       `toml:"subscriber"`

	// C: policing, freezing, lists of what is allowed.
	Throttle       []*Throttle       `toml:"throttle"`
	UDPPolice      []*UDPPolice      `toml:"udp-police"`
	Freeze         []*Freeze         `toml:"freeze"`
	Burst          []*Burst          `toml:"burst"`
	AllowProtocols []*AllowProtocols `toml:"allow-protocols"`
	AllowAddresses []*AllowAddresses `toml:"allow-addresses"`
	DNSTunnel      []*DNSTunnel      `toml:"dns-tunnel"`
	Storm          []*Storm          `toml:"storm"`
}

// rule is what every entry of a Set is.
type rule interface {
	firewall.Rule
	// check says which parameter makes no sense, with a FieldError.
	check(place firewall.Place) error
}

// FieldError says which parameter of a rule is wrong, by its keys in a profile.
type FieldError struct {
	Field string // as "then.for"
	Err   error
}

func (e *FieldError) Error() string { return fmt.Sprintf("field %q: %v", e.Field, e.Err) }
func (e *FieldError) Unwrap() error { return e.Err }

func wrong(field, format string, args ...any) error {
	return &FieldError{field, fmt.Errorf(format, args...)}
}

// inTable puts a field's error under the table that it is in.
func inTable(table string, err error) error {
	var field *FieldError
	if errors.As(err, &field) {
		return &FieldError{strings.Replace(field.Field, "then", table, 1), field.Err}
	}
	return err
}

// Groups are names for lists that several rules share; a rule's list says "@name".
type Groups struct {
	Nets  map[string][]netip.Prefix
	Names map[string][]string
}

// RuleError says which rule of a Set is wrong.
type RuleError struct {
	Rule  string
	Index int // among those of that name
	Err   error
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("rule %s number %d: %v", e.Rule, e.Index+1, e.Err)
}
func (e *RuleError) Unwrap() error { return e.Err }

// Named resolves groups, checks every rule for a box at the given place, and lists them.
func (s *Set) Named(place firewall.Place, groups Groups) ([]firewall.Named, error) {
	var all []firewall.Named
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		for n := range v.Field(i).Len() {
			r := v.Field(i).Index(n).Interface().(rule)
			if err := errors.Join(resolve(reflect.ValueOf(r).Elem(), "", groups), r.check(place)); err != nil {
				var first *FieldError
				errors.As(err, &first)
				return nil, &RuleError{Rule: name, Index: n, Err: first}
			}
			all = append(all, firewall.Named{Name: name, Rule: r})
		}
	}
	return all, nil
}

// resolve puts the groups' members into every list of networks or names.
func resolve(v reflect.Value, path string, groups Groups) error {
	for i := range v.NumField() {
		key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("toml"), ",")
		if v.Type().Field(i).Anonymous { // its keys are the rule's own
			if err := resolve(v.Field(i), path, groups); err != nil {
				return err
			}
			continue
		}
		if key == "" {
			continue
		}
		if path != "" {
			key = path + "." + key
		}
		switch list := v.Field(i).Addr().Interface().(type) {
		case *Nets:
			if err := list.Resolve(groups.Nets); err != nil {
				return &FieldError{key, err}
			}
		case *Names:
			if err := list.resolve(groups.Names); err != nil {
				return &FieldError{key, err}
			}
		default:
			if v.Field(i).Kind() == reflect.Struct {
				if err := resolve(v.Field(i), key, groups); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Known lists the names of all rules.
func Known() (names []string) {
	t := reflect.TypeFor[Set]()
	for i := range t.NumField() {
		names = append(names, t.Field(i).Tag.Get("toml"))
	}
	return names
}
