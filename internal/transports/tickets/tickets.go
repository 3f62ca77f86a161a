// Package tickets makes the keys of a TLS server's session tickets follow from a secret. Every transport whose gateway's
// end is crypto/tls uses it.
package tickets

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// Keys gives the website's session tickets the keys that crypto/tls gives them by itself, a new one each day and seven in
// use, but follows them from a secret, so that they outlive the process: a gateway starts anew whenever its last user has
// gone, and a ticket that no longer works would tell that to whoever asks now and then.
//
// With a ticket's key one can resume a session, not read one: a resumed session has its own key exchange, and nothing is
// accepted before it (RFC 8446, section 2.2; crypto/tls takes no early data).
type Keys struct {
	Secret [sha256.Size]byte // zero: crypto/tls's own ways
	Config *tls.Config

	day atomic.Int64 // whose keys the config has; days begin at another moment for each secret
}

const (
	ticketDay  = 24 * time.Hour
	ticketDays = 7
)

// Turn sets the keys of the day, if it has changed. Without a secret it does nothing.
func (t *Keys) Turn(now time.Time) {
	if t.Secret == [sha256.Size]byte{} {
		return
	}
	offset := int64(binary.BigEndian.Uint32(t.Secret[:4])) % int64(ticketDay/time.Second)
	day := (now.Unix() + offset) / int64(ticketDay/time.Second)
	if t.day.Swap(day) == day {
		return
	}
	var keys [ticketDays][32]byte
	for i := range keys {
		key, err := hkdf.Expand(sha256.New, t.Secret[:], string(binary.BigEndian.AppendUint64([]byte("ticket"), uint64(day-int64(i)))), 32)
		if err != nil {
			panic(err) // for other lengths than this only
		}
		copy(keys[i][:], key)
	}
	t.Config.SetSessionTicketKeys(keys[:])
}
