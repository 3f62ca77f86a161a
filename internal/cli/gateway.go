package cli

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

func (a *app) gatewayCmd() *cobra.Command {
	return group("gateway", "make, run and watch a gateway", a.gatewayInitCmd(), a.gatewayRunCmd(), a.gatewayStatusCmd(),
		a.gatewayUpgradeCmd(), a.gatewayRelayCmd(), a.gatewayBrowserCmd(),
		a.gatewayCSRCmd(), a.gatewayRotateKeyCmd())
}

// gatewayFlags are what every command that works on a gateway's files takes.
type gatewayFlags struct{ state, settings string }

func (f *gatewayFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.state, "state-dir", "",
		"the gateway's directory (GODWIT_STATE_DIR; default /var/lib/godwit for root, else the user's own)")
	cmd.Flags().StringVar(&f.settings, "config", "",
		"the gateway's settings (GODWIT_CONFIG; default /etc/godwit/gateway.toml for /var/lib/godwit, else in the directory)")
}

// open opens the gateway's directory.
func (a *app) open(cmd *cobra.Command, f gatewayFlags) (*gatewaydir.Dir, error) {
	paths, err := a.gatewayPaths(f.state, f.settings)
	if err != nil {
		return nil, err
	}
	log, err := a.logger(slog.LevelWarn, a.stderr)
	if err != nil {
		return nil, err
	}
	d, err := paths.Open(cmd.Context(), log)
	return d, elsewhere(err, paths)
}

// elsewhere adds to "there is no gateway here" where one is.
func elsewhere(err error, paths gatewaydir.Paths) error {
	if !errors.Is(err, gatewaydir.ErrNotInitialised) || paths.State == systemState {
		return err
	}
	if _, statErr := os.Stat(systemState); statErr == nil {
		return fmt.Errorf("%w; this machine's own is in %s: use sudo", err, systemState)
	}
	return err
}

func (a *app) gatewayInitCmd() *cobra.Command {
	var f gatewayFlags
	var endpoints, ways []string
	var token, zone string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "init", Short: "make a gateway, with its first access key", Args: noArgs,
		Long: `Makes a gateway's directory: its keys, its database, its settings, and the first
access key, which it prints. Asks nothing. Run again it changes nothing, except
the endpoints if any are given, and prints the same.

If an endpoint is a public name on port 443 the settings say that the gateway gets
its certificate from Let's Encrypt, when it first runs.

As root on Linux it also loads BBR and lets programs use it, the congestion
control that holds up on lossy paths, lets connections hold as much as long paths
do, and has the kernel not remember whom it was connected with.`,
		Example: "  sudo godwit gateway init\n  sudo godwit gateway init --endpoint gateway.example:443",
		RunE: func(cmd *cobra.Command, _ []string) error {
			paths, err := a.gatewayPaths(f.state, f.settings)
			if err != nil {
				return err
			}
			for i, e := range endpoints {
				endpoints[i] = parseEndpoint(e)
				if err := (gatewaydir.Settings{Listen: []string{":443"}, Endpoints: endpoints[i : i+1]}).Validate(); err != nil {
					return usagef("flag --endpoint: %q is not host:port: %w", e, err)
				}
			}
			log, err := a.logger(slog.LevelWarn, a.stderr)
			if err != nil {
				return err
			}
			wishes := gatewaydir.Wishes{Endpoints: endpoints, Ways: ways, Zone: zone}
			if token != "" {
				if wishes.Relay, err = a.readToken(token); err != nil {
					return err
				}
			}
			d, made, err := paths.Init(cmd.Context(), wishes, log)
			if err != nil {
				return err
			}
			defer d.Close()
			doc := initDoc{Schema: "godwit.gateway.init/1", Created: made, StateDir: paths.State,
				Settings: paths.SettingsFile(), Endpoints: d.Settings.Endpoints, BBR: allowBBR(cmd.Context(), a.kernel),
				SendBuffer: allowSendBuffer(a.kernel), Peers: forgetPeers(a.kernel), Certificate: cmp.Or(d.Settings.Certificate.Mode, "self")}
			if doc.ForwardsTo = d.Settings.Forward.Homes; token != "" {
				if asJSON {
					return a.printJSON(doc)
				}
				a.printRelay(doc, d, f)
				return nil
			}
			k, err := d.Control.KeyByName(cmd.Context(), gatewaydir.FirstKey)
			switch {
			case err == nil && !k.Revoked:
				key, err := d.AccessKey(k)
				if err != nil {
					return err
				}
				doc.Key = key.Text()
			case err != nil && !errors.Is(err, control.ErrKeyUnknown):
				return err
			}
			if asJSON {
				return a.printJSON(doc)
			}
			return a.printInit(doc, f)
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&endpoints, "endpoint", nil,
		"where clients reach the gateway, host:port; again for more (default this machine's address, port 443)")
	cmd.Flags().StringArrayVar(&ways, "way", nil,
		"a way that leads through others, such as websocket+cdn.example:443/site.example; again for more")
	cmd.Flags().StringVar(&zone, "dns-zone", "",
		"answer for this zone, which its parent delegates to the gateway, and be reached through resolvers")
	cmd.Flags().StringVar(&token, "relay", "",
		"make a relay, of the gateway whose 'relay add' printed this token; - reads it from standard input")
	addJSON(cmd, &asJSON)
	return cmd
}

// initDoc is what init --json prints.
type initDoc struct {
	Schema    string   `json:"schema"`
	Created   bool     `json:"created"`
	StateDir  string   `json:"state_dir"`
	Settings  string   `json:"settings"`
	Endpoints []string `json:"endpoints"`
	// ForwardsTo are the gateways that a relay forwards to.
	ForwardsTo []string `json:"forwards_to,omitempty"`
	// Certificate is where certificates come from: "self", "acme" or "files".
	Certificate string `json:"certificate"`
	// Key is the first access key's text; empty if it has been revoked.
	Key        string     `json:"key,omitempty"`
	BBR        bbr        `json:"bbr"`
	SendBuffer sendBuffer `json:"send_buffer"`
	Peers      peers      `json:"peers"`
}

func (a *app) printInit(doc initDoc, f gatewayFlags) error {
	out := a.stdout
	if doc.Created {
		fmt.Fprintln(out, out.paint(good, "✓")+" A gateway is made.")
	} else {
		fmt.Fprintln(out, out.paint(good, "✓")+" The gateway was here already.")
	}
	out.field("state", "%s", doc.StateDir)
	out.field("settings", "%s", doc.Settings)
	for i, e := range doc.Endpoints {
		out.field([]string{"endpoint", ""}[min(i, 1)], "%s", e)
	}
	sayCertificate(out, doc)
	mark := func(ok bool) string {
		if ok {
			return out.paint(good, "✓")
		}
		return out.paint(alert, "!")
	}
	out.field("bbr", "%s %s", mark(doc.BBR.Allowed), doc.BBR.Note)
	out.field("buffers", "%s %s", mark(doc.SendBuffer.Bytes >= wantSendBuffer), doc.SendBuffer.Note)
	out.field("peers", "%s %s", mark(doc.Peers.Forgotten), doc.Peers.Note)
	if !slices.ContainsFunc(doc.Endpoints, gatewaydir.PublicEndpoint) {
		fmt.Fprintf(out, "\n%s %s cannot be reached from the internet.\n  Behind a router or at a cloud provider, give the "+
			"address that others see:\n    godwit gateway init --endpoint ADDRESS:443\n", out.paint(alert, "!"),
			doc.Endpoints[0])
	}
	if doc.Key != "" {
		fmt.Fprintf(out, "\nThe first access key, for up to 5 devices. Whoever has it can use the gateway:\n\n")
		if err := a.printKey(doc.Key); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(out, "\nThe first access key has been revoked: 'godwit key list' shows the others.\n")
	}
	dir := ""
	if f.state != "" {
		dir = " --state-dir " + shellQuote(f.state)
	}
	fmt.Fprintf(out, "\nNext:\n  here          godwit gateway run%s\n  on a laptop   godwit up 'godwit://…'\n"+
		"  for others    godwit key add NAME%s\n", dir, dir)
	return nil
}

// sayCertificate says what strangers will see of the gateway, and what that lets others know. Users go by the key.
func sayCertificate(out *screen, doc initDoc) {
	switch doc.Certificate {
	case "acme":
		out.field("certificate", "from a CA, when the gateway runs; by default Let's Encrypt, whose terms that accepts")
		out.field("", "the name must lead to this machine; CAs publish the names they certify")
	case "files":
		out.field("certificate", "yours, as certificate.chain in the settings says")
	default:
		out.field("certificate", "signed by itself, %s", out.paint(alert, "which is unusual at a hoster and draws looks"))
		out.field("", "better is a name that leads here: godwit gateway init --endpoint NAME:443")
		out.field("", "or certificate.address = true with mode = \"acme\": rare too, and public (docs/certificates.md)")
	}
}
