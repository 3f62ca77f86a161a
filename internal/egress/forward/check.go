package forward

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/packet"
)

// checkTime is how long the kernel may take: it does so before the write of a packet returns, unless the machine is very busy.
const checkTime = time.Second

// check asks the kernel to forward a datagram from the TUN and back to it, over IPv4 and IPv6, and an answer to that: so it finds
// firewalls of others that drop what is forwarded, however they are written. It sets works.
func (e *Egress) check() error {
	var errs [2]error
	var wg sync.WaitGroup
	for i, own := range []netip.Addr{egress.Hop4, egress.Hop6} {
		wg.Go(func() {
			from := own
			for range 1 + 2*(e.cfg.Number%100) {
				from = from.Next() // another one for each TUN
			}
			err := e.checkFamily(from, from.Next())
			e.works[i] = err == nil
			if err != nil && !errors.Is(err, errors.ErrUnsupported) {
				errs[i] = fmt.Errorf("IPv%d: %w", 4+2*i, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

func (e *Egress) checkFamily(from, to netip.Addr) error {
	if err := e.cfg.Take(from, to); err != nil {
		return err
	}
	defer e.cfg.Release(from, to)
	const port = 9
	token := []byte(rand.Text())
	near, far := netip.AddrPortFrom(from, port), netip.AddrPortFrom(to, port)
	gone, err := e.cross(near, far, token)
	if err != nil {
		return fmt.Errorf("what is forwarded does not leave: %w", err)
	}
	if gone.Addr() == from {
		return errors.New("what is forwarded leaves with its inner address: the kernel is older than Linux 5.7")
	}
	if _, err := e.cross(far, gone, token); err != nil {
		return fmt.Errorf("answers do not come back: %w", err)
	}
	return nil
}

var errSilent = errors.New("it is dropped")

// cross has a datagram forwarded, and returns its source as it comes out.
func (e *Egress) cross(from, to netip.AddrPort, token []byte) (netip.AddrPort, error) {
	b, err := packet.AppendUDP(nil, from, to, token)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if _, err := e.cfg.TUN.Write(b); err != nil {
		return netip.AddrPort{}, err
	}
	silent := time.NewTimer(checkTime)
	defer silent.Stop()
	for {
		select {
		case b := <-e.probe[family(to.Addr())]:
			p, err := packet.Parse(b)
			if err != nil {
				continue
			}
			if u, err := p.UDP(); err == nil && string(u.Payload) == string(token) {
				return u.Src, nil
			}
		case <-silent.C:
			return netip.AddrPort{}, errSilent
		}
	}
}
