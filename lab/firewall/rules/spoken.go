package rules

import (
	"github.com/godwit-vpn/godwit/internal/clienthello"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/look"
)

// spoken reads the ClientHello that a connection begins with, of TLS over TCP, as far as the box puts that in order, or of
// QUIC in any number of datagrams. Its zero value is ready; there is one for each flow.
type spoken struct {
	pieces []look.Piece
}

// read takes in what a packet of the client's has to say; look.ErrMore is for a hello that is not whole.
func (s *spoken) read(p *firewall.Packet, do *firewall.Action) (*clienthello.Hello, error) {
	if p.Proto == firewall.TCP {
		text := do.Text()
		if len(text) == 0 {
			return nil, look.ErrMore
		}
		return look.ClientHello(text, true)
	}
	initial, err := look.QUICInitial(p.Payload)
	if err != nil || len(s.pieces) > maxPieces {
		return nil, look.ErrNone
	}
	s.pieces = append(s.pieces, initial.Crypto...)
	return look.CryptoHello(look.Join(s.pieces))
}

// maxPieces bounds what is kept of a hello in pieces; Chromium makes a dozen or so.
const maxPieces = 100
