package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/egress/forward"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/hostnet/forwarding"
)

// kernelForward is an Egress by which the kernel carries packets, and the machine's network that it needs.
type kernelForward struct {
	*forward.Egress
	net *forwarding.TUN
	log *slog.Logger
}

// Close undoes what nobody else needs.
func (k *kernelForward) Close() error {
	err := errors.Join(k.Egress.Close(), k.net.Close())
	if err != nil {
		k.log.Error("this machine's network is not as it was: 'godwit rescue' tries again", "err", err)
	}
	return err
}

// forwarder makes what gatewaydir.Dir's Forward is, for those settings.
func forwarder(s gatewaydir.EgressSettings, log *slog.Logger) func(*egress.Sockets) (gatewaydir.Forwarder, error) {
	return func(sockets *egress.Sockets) (gatewaydir.Forwarder, error) {
		if s.Packets == "" || s.Packets == gatewaydir.PacketsBySockets || s.Upstream != "" {
			if undone, err := forwarding.Rescue(forwarding.Dir); err != nil {
				log.Warn("what a killed gateway has left of this machine's forwarding stays: 'godwit rescue' removes it", "err", err)
			} else if len(undone) > 0 {
				log.Info("undid what a killed gateway had left of this machine's forwarding")
			}
			return nil, nil
		}
		k, err := openForward(s, sockets, log)
		switch {
		case err == nil:
			log.Info("the kernel carries packets", "packets", s.Packets)
			return k, nil
		case s.Packets == gatewaydir.PacketsByKernel:
			return nil, fmt.Errorf("packets = %q: %w: it takes root, or cap_net_admin and /dev/net/tun; \"auto\" does without "+
				"where it must", s.Packets, err)
		}
		log.Info("sockets carry packets: UDP and pings only", "packets", s.Packets, "because", err)
		return nil, nil
	}
}

func openForward(s gatewaydir.EgressSettings, sockets *egress.Sockets, log *slog.Logger) (*kernelForward, error) {
	source4, _ := netip.ParseAddr(s.Source4) // they have been validated
	source6, _ := netip.ParseAddr(s.Source6)
	net, err := forwarding.Open(forwarding.Dir, forwarding.Config{Own4: egress.Hop4, Own6: egress.Hop6,
		Probe4: forward.Probe4, Probe6: forward.Probe6, Source4: source4, Source6: source6})
	if err != nil {
		return nil, err
	}
	e, err := forward.New(forward.Config{Sockets: sockets, TUN: net.File, Number: net.Number, Take: net.Take, Release: net.Release,
		Forget: net.Forget, All: s.Packets == gatewaydir.PacketsByKernel, Log: log})
	if err != nil {
		return nil, errors.Join(err, net.Close())
	}
	return &kernelForward{e, net, log}, nil
}
