package accesskey

import (
	"encoding/hex"
	"fmt"
)

// ID names an access key. It is no secret, but it is one person's: show it to its holder and its gateway's operator.
type ID [8]byte

// String is the id's 16 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// ParseID reads what String prints, in either case.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 2*len(id) {
		return ID{}, fmt.Errorf("key id %.40q: %d characters instead of %d", s, len(s), 2*len(id))
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("key id %q: not hexadecimal", s)
	}
	return id, nil
}

// MarshalText is String, for settings and JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID) UnmarshalText(text []byte) error {
	v, err := ParseID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}
