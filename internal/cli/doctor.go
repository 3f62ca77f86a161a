package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/doctor"
	"github.com/godwit-vpn/godwit/internal/network"
)

// doctorFlags are what doctor is asked for.
type doctorFlags struct {
	clientFlags
	names, resolvers                []string
	noResolvers, bursts, full, json bool
	noSteer                         bool
	patience                        time.Duration
}

// burstSize is how many connections --bursts opens at once: twice what was found punished.
const burstSize = 8

func (a *app) doctorCmd() *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use: "doctor [KEY | FILE | -]", Short: "find out what this network does to you", Args: upToOneArg,
		Long: `Finds out what this network does to connections: addresses swallowed, names cut,
answers forged, QUIC dropped, large transfers frozen, and more; how sure that is,
what it was seen by, and what to do. It takes about a minute. docs/doctor.md tells
what it can tell, and what it asks of the network.

Asked are the gateways of an access key, as a visitor of their websites: nothing
of the key is shown to anybody. The key is given as to 'godwit up'.

What was found the dialer of this machine heeds for a day, on this network, whether
the tunnel is up or not: what is blocked it tries last, what is slow after the rest.

What it prints has no address, no name and no key in it, and can be shown to those
who help; --full says which addresses and names the numbers stand for.

Ends with 0 if nothing was found, 4 if nothing of the gateway can be reached, and
6 if something else was found.`,
		Example: "  godwit doctor\n  godwit doctor --name blocked.example --resolver 192.0.2.53\n  godwit doctor 'godwit://…' --json",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.doctor(cmd.Context(), f, args) },
	}
	f.add(a, cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.names, "name", nil, "see what becomes of this name, too: it is said to the gateway and to resolvers,\n"+
		"and whoever watches sees that; may be given several times")
	flags.StringArrayVar(&f.resolvers, "resolver", nil, "ask this resolver, too, as ADDRESS or ADDRESS:PORT; best one abroad; may be\n"+
		"given several times")
	flags.BoolVar(&f.noResolvers, "no-resolvers", false, "do not ask this machine's resolvers anything")
	flags.BoolVar(&f.bursts, "bursts", false, fmt.Sprintf("at last open %d connections at once: a network that minds that may block\n"+
		"new ones for minutes", burstSize))
	flags.DurationVar(&f.patience, "patience", 20*time.Second, "how long to wait for what is blocked for a while to be let go")
	flags.BoolVar(&f.noSteer, "no-steer", false, "do not tell the dialer what was found")
	flags.BoolVar(&f.full, "full", false, "say which addresses and names it is about: for your own eyes")
	addJSON(cmd, &f.json)
	return cmd
}

// doctorDoc is what doctor --json prints. What tells who is who is there with --full only.
type doctorDoc struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
	Date    string `json:"date"`
	*doctor.Report
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Names     []string     `json:"names,omitempty"`
	KeyID     string       `json:"key_id,omitempty"`
	// Steering is what the dialer makes of it; absent if it was not told.
	Steering *client.Steering `json:"steering,omitempty"`
}

func (a *app) doctor(ctx context.Context, f doctorFlags, args []string) error {
	cfg := doctor.Config{Names: f.names, Patience: f.patience, Doing: a.showDoing}
	if f.patience < 0 {
		return usagef("flag --patience: %v is negative", f.patience)
	}
	for _, r := range f.resolvers {
		at, err := netip.ParseAddrPort(r)
		if err != nil {
			addr, err := netip.ParseAddr(r)
			if err != nil {
				return usagef("flag --resolver: %q is no address, as 192.0.2.53", r)
			}
			at = netip.AddrPortFrom(addr, 53)
		}
		cfg.Resolvers = append(cfg.Resolvers, at)
	}
	if !f.noResolvers {
		cfg.System = doctor.SystemResolvers()
	}
	if f.bursts {
		cfg.Burst = burstSize
	}
	ps, err := a.profiles(f.clientFlags)
	if err != nil {
		return err
	}
	key, err := a.keyToTest(ps, f.profile, args)
	if err != nil {
		return err
	}
	cfg.Endpoints, cfg.Pins = key.Endpoints, key.Pins()
	here := network.Now(nil)
	report, err := doctor.Run(ctx, cfg)
	a.clearDoing()
	if err != nil {
		return err
	}
	var steering *client.Steering
	var unsteered error // why not
	if found, ok := report.Steer(time.Now()); ok && !f.noSteer && samePlace(here, network.Now(nil)) {
		s, err := ps.steer(ctx, key, found)
		if unsteered = err; err == nil {
			steering = &s
		}
	}
	if f.json {
		doc := doctorDoc{Schema: "godwit.doctor/1", Version: a.version, Date: time.Now().UTC().Format(time.DateOnly), Report: report,
			Steering: steering}
		if f.full {
			doc.Addresses, doc.Names = report.Who()
			doc.KeyID = key.ID.String()
		}
		if err := a.printJSON(doc); err != nil {
			return err
		}
	} else {
		a.printDiagnosis(report, f.full)
		if steering != nil {
			fmt.Fprintln(a.stdout, steeringText(*steering))
		}
	}
	if unsteered != nil && !(report.Healthy() && errors.Is(unsteered, errNoDevice)) {
		fmt.Fprintf(a.stderr, "What was found is not kept for the dialer: %v\n", unsteered)
	}
	if !report.Healthy() {
		return &diagnosisError{report}
	}
	return nil
}

// samePlace reports whether the machine was on one network all the while. The router is known only while it is spoken to.
func samePlace(before, after network.State) bool {
	return before.Local4 == after.Local4 && (before.Router == "" || after.Router == "" || before.Router == after.Router)
}

func (a *app) printDiagnosis(r *doctor.Report, full bool) {
	out := a.stdout
	for _, f := range r.Findings {
		mark := out.paint(bad, "✗")
		if !f.Kind.Causes() {
			mark = out.paint(alert, "!")
		}
		fmt.Fprintf(out, "%s %s\n", mark, out.paint(bold, f.Text))
		for i, e := range f.Evidence {
			name := ""
			if i == 0 {
				name = "seen"
			}
			out.field(name, "%s", e)
		}
		out.field("sure", "%s", map[doctor.Confidence]string{doctor.High: "quite", doctor.Medium: "rather"}[f.Confidence])
		if f.Next != "" {
			fmt.Fprintf(out, "  → %s\n", f.Next)
		}
		fmt.Fprintln(out)
	}
	if r.Healthy() {
		fmt.Fprintln(out, out.paint(good, "Nothing was found that this network does to you."))
	}
	for i, what := range r.Untold {
		name := ""
		if i == 0 {
			name = "not told"
		}
		out.field(name, "%s", what)
	}
	if !full {
		return
	}
	addrs, names := r.Who()
	for i, addr := range addrs {
		out.field(fmt.Sprintf("address %d", i+1), "%s", addr)
	}
	for i, name := range names[1:] {
		out.field(fmt.Sprintf("name %d", i+1), "%s", name)
	}
}

// diagnosisError is a diagnosis of a network that does something.
type diagnosisError struct{ report *doctor.Report }

func (e *diagnosisError) Error() string {
	if e.code() == exitBlocked {
		return "nothing of the gateway can be reached from here"
	}
	return plural(len(e.report.Findings), "thing") + " of this network " + map[bool]string{true: "is", false: "are"}[len(e.report.Findings) == 1] +
		" in the way"
}

func (e *diagnosisError) code() int {
	for _, f := range e.report.Findings {
		switch f.Kind {
		case doctor.NoNetwork, doctor.CaptivePortal, doctor.Unreachable, doctor.SomebodyElse:
			return exitBlocked
		}
	}
	return exitPartly
}
