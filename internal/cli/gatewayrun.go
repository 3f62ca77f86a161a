package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/certificate"
	"github.com/godwit-vpn/godwit/internal/flow"
	"github.com/godwit-vpn/godwit/internal/gateway"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/handover"
	"github.com/godwit-vpn/godwit/internal/local"
	"github.com/godwit-vpn/godwit/internal/relay"
)

// gatewayProcess is the gateway's name in its directory's lock and socket.
const gatewayProcess = "gateway"

func (a *app) gatewayRunCmd() *cobra.Command {
	var f gatewayFlags
	var listen, allow []string
	var congestion, packets string
	cmd := &cobra.Command{
		Use: "run", Short: "run the gateway, in the foreground", Args: noArgs,
		Long: `Runs the gateway that 'godwit gateway init' made, until it is interrupted or asked
to end; then it tells the clients and ends with 0. Flags go before the settings.
Half a minute after the last session's end it goes on as a fresh process, which
knows nothing of what was; the first one waits for that. (Linux only.)
'godwit gateway upgrade' has it replaced without that.`,
		Example: "  sudo godwit gateway run\n  godwit gateway run --listen :8443 --allow 192.168.1.0/24",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			for _, l := range listen {
				if err := parseListen(l); err != nil {
					return err
				}
			}
			for _, p := range allow {
				if err := parseAllow(p); err != nil {
					return err
				}
			}
			self, err := handover.This()
			if err != nil {
				return err
			}
			defer self.Close()
			defer func() {
				if err == nil {
					err = self.Follow(cmd.Context().Err() != nil)
				}
			}()
			paths, err := a.gatewayPaths(f.state, f.settings)
			if err != nil {
				return err
			}
			log, err := a.logger(slog.LevelInfo, a.stderr)
			if err != nil {
				return err
			}
			d, err := paths.Open(cmd.Context(), log)
			if err != nil {
				return elsewhere(err, paths)
			}
			defer d.Close()
			setting := "field listen"
			if len(listen) > 0 {
				d.Settings.Listen, setting = listen, "flag --listen"
			}
			d.Settings.Egress.Allow = append(d.Settings.Egress.Allow, allow...)
			if congestion != "" {
				d.Settings.Congestion = congestion
			}
			if packets != "" {
				d.Settings.Egress.Packets = packets
			}
			return a.runGateway(cmd.Context(), self, d, setting, log)
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&listen, "listen", nil,
		"address to take links on, host:port; again for more (default as in the settings)")
	cmd.Flags().StringArrayVar(&allow, "allow", nil, "prefix that users may reach although it is private; again for more")
	cmd.Flags().StringVar(&congestion, "congestion", "",
		"congestion control for links; \"system\" leaves it to the system (default bbr)")
	cmd.Flags().StringVar(&packets, "packets", "",
		"what carries packets: \"sockets\" (UDP and pings), \"kernel\" (every protocol), or \"auto\" (default as in the settings)")
	return cmd
}

// runGateway runs the gateway until ctx is done, somebody asks it to stop, or another process has taken its place and
// the last stream has ended. If this process takes another one's place that one serves until all is ready here.
func (a *app) runGateway(ctx context.Context, self *handover.Process, d *gatewaydir.Dir, setting string,
	log *slog.Logger) error {
	var inst *local.Instance
	var err error
	succeeds := self.Succeeds()
	if !succeeds {
		inst, err = local.Take(d.Path, gatewayProcess)
		var held *local.HeldError
		if errors.As(err, &held) {
			return fmt.Errorf("the gateway in %q runs already: %w", d.Path, held)
		} else if err != nil {
			return err
		}
		defer inst.Close()
	}
	d.Listen, d.Forward = self.Listen, forwarder(d.Settings.Egress, log)
	g, err := d.Service(log)
	if err != nil {
		return portError(setting, err)
	}
	defer g.Close()
	g.Certificates.Resume(self.Memo())
	// Looked at, and logged, now: later it would tell when a fresh process was first used.
	g.Egress.Families()
	if succeeds {
		// As late as this: when the other process is not found any more nothing may go wrong here.
		if inst, err = local.Adopt(d.Path, gatewayProcess, self.Lock()); err != nil {
			return err
		}
		defer inst.Close()
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	u := &upgrade{ctx: ctx, self: self, inst: inst, drain: func() { g.Drain(d.Settings.Drain()) }, stop: stop, log: log,
		stopping: context.AfterFunc(ctx, func() { a.notify("STOPPING=1") })}
	inst.Serve(local.Handler{Status: a.gatewayStatus(d, g), Stop: stop, Upgrade: u.do})
	defer u.onHangUp()()

	at := listening(g)
	if !succeeds { // what a fresh process says would tell, for ever, when the last session ended
		fmt.Fprintf(a.stdout, "listening on %s\n", strings.Join(at, ", "))
	}
	a.notify("READY=1")
	if err := self.Ready(); err != nil {
		log.Warn("the process before this one has gone already", "err", err)
	}
	if a.renews {
		var renewing sync.WaitGroup
		renewing.Go(func() { u.renewWhenIdle(ctx, g.Idle, g.Certificates.Failed) })
		defer func() {
			stop()
			renewing.Wait()
		}()
	}
	if err := g.Run(ctx); err != nil {
		return err
	}
	return u.failed()
}

// portError makes sense of an error of opening a listener.
func portError(setting string, err error) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "listen" {
		return err
	}
	addr := ""
	if op.Addr != nil {
		addr = op.Addr.String()
	}
	return &busyPortError{setting: setting, addr: addr, err: err}
}

// notify tells a service manager how things are (sd_notify(3)), if there is one that wants to know.
func (a *app) notify(state string) {
	path := a.env("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // "@" begins an abstract name
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}

// gatewayDoc is what gateway status --json prints: the gateway's own status, and what only its directory and its egress
// know.
type gatewayDoc struct {
	Schema    string   `json:"schema"`
	Version   string   `json:"version"`
	PID       int      `json:"pid"`
	StateDir  string   `json:"state_dir"`
	Listening []string `json:"listening"`
	Endpoints []string `json:"endpoints"`
	Exit4     string   `json:"exit4,omitempty"`
	Exit6     string   `json:"exit6,omitempty"`
	// ExitIsEntry says whether users' traffic leaves from an address that they come in at; null if that cannot be known,
	// as behind a router that translates addresses.
	ExitIsEntry   *bool              `json:"exit_is_entry"`
	ProcessMemory uint64             `json:"process_memory_bytes"`
	Certificate   certificate.Status `json:"certificate"`
	Relay         *relay.Status      `json:"relay,omitempty"` // of one that forwards
	gateway.Status
}

// listening lists the addresses that the gateway listens at, those of TCP and UDP once.
func listening(g *gatewaydir.Service) (at []string) {
	for _, addr := range g.Gateway.Addrs() {
		if s := addr.String(); !slices.Contains(at, s) {
			at = append(at, s)
		}
	}
	return at
}

// gatewayStatus makes the function that answers for the gateway.
func (a *app) gatewayStatus(d *gatewaydir.Dir, g *gatewaydir.Service) func() any {
	at := listening(g)
	return func() any {
		v4, v6 := g.Egress.ExitAddrs()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		doc := gatewayDoc{Schema: "godwit.gateway.status/1", Version: a.version, PID: os.Getpid(), StateDir: d.Path,
			Listening: at, Endpoints: d.Settings.Endpoints, ExitIsEntry: exitIsEntry(d.Settings.Endpoints, v4, v6),
			ProcessMemory: m.Sys - m.HeapReleased, Status: g.Gateway.Status(), Certificate: g.Certificates.Status()}
		if g.Relay != nil {
			st := g.Relay.Status()
			doc.Relay = &st
		}
		if v4.IsValid() {
			doc.Exit4 = v4.String()
		}
		if v6.IsValid() {
			doc.Exit6 = v6.String()
		}
		return doc
	}
}

// exitIsEntry compares the addresses that clients come to with those that their traffic leaves from; nil is unknown.
// A private exit address is translated by someone, to what cannot be seen here; a name is not looked up.
func exitIsEntry(endpoints []string, exits ...netip.Addr) *bool {
	known := false
	for _, e := range endpoints {
		t, err := flow.ParseTarget(e)
		if err != nil {
			continue
		}
		entry, isAddr := t.Addr()
		for _, exit := range exits {
			switch {
			case !isAddr || !exit.IsValid() || exit.Is4() != entry.Is4():
			case exit == entry:
				same := true
				return &same
			case !exit.IsPrivate() && !exit.IsLoopback():
				known = true
			}
		}
	}
	if !known {
		return nil
	}
	return new(bool)
}

// findGateway finds the process that runs there.
func findGateway(paths gatewaydir.Paths) (*local.Peer, error) {
	p, err := local.Find(paths.State, gatewayProcess)
	if errors.Is(err, local.ErrNotRunning) {
		err = fmt.Errorf("no gateway runs in %q: %w", paths.State, local.ErrNotRunning)
	}
	return p, err
}

func (a *app) gatewayStatusCmd() *cobra.Command {
	var f gatewayFlags
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "show how the gateway is; ends with 3 if it does not run", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			paths, err := a.gatewayPaths(f.state, f.settings)
			if err != nil {
				return err
			}
			ask := func() (*local.Peer, error) { return findGateway(paths) }
			return showStatus(cmd.Context(), a, ask, asJSON, watch, printGateway)
		},
	}
	f.add(cmd)
	addJSON(cmd, &asJSON)
	addWatch(cmd, &watch)
	return cmd
}

func printGateway(out *screen, doc gatewayDoc) {
	now := time.Now()
	fmt.Fprintf(out, "%s %s  process %d, for %s\n", out.paint(good, "●"), out.paint(bold, "running"), doc.PID,
		ago(now.Sub(doc.Since)))
	out.field("listening", "%s", strings.Join(doc.Listening, ", "))
	out.field("endpoints", "%s", strings.Join(doc.Endpoints, ", "))
	exits := strings.Join(strings.Fields(doc.Exit4+" "+doc.Exit6), ", ")
	switch {
	case doc.ExitIsEntry != nil && *doc.ExitIsEntry:
		out.field("exit", "%s %s", exits, out.paint(alert, "the address that clients come to: sites they visit learn it"))
		out.field("", "egress.source4 and source6 in the settings choose another one")
	case exits == "":
		out.field("exit", "%s", out.paint(bad, "no way out to the internet"))
	case doc.ExitIsEntry == nil:
		out.field("exit", "%s (whether sites see the address that clients come to cannot be known here)", exits)
	default:
		out.field("exit", "%s", exits)
	}
	out.field("in use", "%s by %s, over %s (%s)", plural(doc.Sessions, "session"), plural(doc.Devices, "device"),
		plural(doc.Links, "link"), plural(doc.Streams, "stream"))
	if r := doc.Relay; r != nil {
		out.field("relay", "%s by %s, %s forwarded, %d refused", plural(r.Pipes, "pipe"), plural(r.Users, "access key"),
			size(r.Forwarded), r.Refused)
	}
	out.field("carried", "%s to clients, %s from them, on the links that are up", size(doc.Sent), size(doc.Received))
	cc := strings.Join(doc.Congestion, ", ")
	switch {
	case cc == "":
		cc = "not known before a link is up"
	case !strings.Contains(cc, "bbr"):
		cc += out.paint(alert, "  slow on lossy paths: 'godwit gateway init' as root allows BBR")
	}
	out.field("congestion", "%s", cc)
	out.field("memory", "%s of %s held for sessions; the process has %s", size(doc.Memory), size(doc.MemoryMax),
		size(doc.ProcessMemory))
	out.field("", "nothing is in it of sessions that ended before %s", doc.Since.Local().Format("2006-01-02 15:04:05"))
	for i, c := range doc.Certificate.Certificates {
		out.field([]string{"certificate", ""}[min(i, 1)], "for %s, by %s, until %s", strings.Join(c.Names, ", "), issuer(c),
			c.NotAfter.Format(time.DateOnly))
	}
	if doc.Certificate.Alarm != "" {
		out.field("", "%s", out.paint(alert, doc.Certificate.Alarm))
	}
	out.field("door", "%s let in, %d refused, %s", plural(doc.Admitted, "link"), doc.Refused,
		plural(doc.Enrolled, "enrolment"))
}

func issuer(c certificate.Served) string {
	if c.SelfSigned {
		return "itself"
	}
	return c.Issuer
}
