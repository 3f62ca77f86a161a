package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/relay"
)

func (a *app) gatewayRelayCmd() *cobra.Command {
	return group("relay", "let clients enter through other machines", a.relayAddCmd(), a.relayListCmd(), a.relayRemoveCmd())
}

func (a *app) relayAddCmd() *cobra.Command {
	var f gatewayFlags
	var endpoint string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "make a token that turns another machine into a relay",
		Long: `Prints a token for a machine through which clients can enter, where the gateway's own
addresses are blocked: on any host, also a domestic one. The relay is a website with
a hidden door, like the gateway. It forwards bytes, can read nothing, and knows of
its users the id of their access key, while they are there.

Access keys printed from now on name the relay: 'godwit key show NAME'. The same
name with another endpoint moves it, with the same token.`,
		Example: "  sudo godwit gateway relay add home --endpoint relay.example:443\n" +
			"  # and on that machine:\n  sudo godwit gateway init --endpoint relay.example:443 --relay -",
		Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if endpoint == "" {
				return usagef("flag --endpoint: say where clients will reach the relay, host:port")
			}
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			token, err := d.AddRelay(args[0], endpoint)
			if err != nil {
				return err
			}
			if asJSON {
				return a.printJSON(struct {
					Schema   string `json:"schema"`
					Name     string `json:"name"`
					Endpoint string `json:"endpoint"`
					Token    string `json:"token"`
				}{"godwit.gateway.relay.add/1", args[0], endpoint, token.Text()})
			}
			fmt.Fprintln(a.stdout, token.Text())
			own, _, _ := strings.Cut(endpoint, "/")
			fmt.Fprintf(a.stderr, "\nWhoever has this token can pose as the relay, and as nothing else. On the machine that is to be it:\n\n"+
				"  godwit gateway init --endpoint %s --relay -    (and paste it)\n  godwit gateway run\n\n"+
				"Then give users their access keys again, which now name it: 'godwit key show NAME'.\n", own)
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&endpoint, "endpoint", "",
		"where clients will reach the relay, host[:port][/name]; name is the server name to ask for, if not host")
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) relayListCmd() *cobra.Command {
	var f gatewayFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "list the relays that access keys name", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			type relayDoc struct {
				Name     string `json:"name"`
				Endpoint string `json:"endpoint"`
			}
			docs := []relayDoc{}
			for _, r := range d.Settings.Relays {
				docs = append(docs, relayDoc(r))
			}
			if asJSON {
				return a.printJSON(struct {
					Schema string     `json:"schema"`
					Relays []relayDoc `json:"relays"`
				}{"godwit.gateway.relay.list/1", docs})
			}
			if len(docs) == 0 {
				fmt.Fprintln(a.stdout, "There are no relays: 'godwit gateway relay add NAME --endpoint HOST:443' makes one.")
			}
			for _, r := range docs {
				a.stdout.field(r.Name, "%s", r.Endpoint)
			}
			return nil
		},
	}
	f.add(cmd)
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) relayRemoveCmd() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "leave a relay out of access keys from now on", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			if err := d.RemoveRelay(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s Access keys printed from now on do not name %s. It forwards until it is switched off.\n",
				a.stdout.paint(good, "✓"), args[0])
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// readToken reads a relay's token: the text itself, - for standard input, or a file.
func (a *app) readToken(arg string) (*relay.Token, error) {
	text := arg
	var err error
	switch {
	case arg == "-":
		text, err = readSome(a.stdin)
	case !relay.IsToken(arg):
		var file *os.File
		if file, err = os.Open(arg); err == nil {
			text, err = readSome(file)
			file.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("flag --relay: %w", err)
	}
	t, err := relay.ParseToken(text)
	if err != nil {
		return nil, usagef("flag --relay: %w", err)
	}
	return &t, nil
}

// readSome reads a text that is not long.
func readSome(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 64<<10))
	return strings.TrimSpace(string(b)), err
}

// printRelay is what init says of a relay.
func (a *app) printRelay(doc initDoc, d *gatewaydir.Dir, f gatewayFlags) {
	out := a.stdout
	fmt.Fprintln(out, out.paint(good, "✓")+" A relay is made.")
	out.field("state", "%s", doc.StateDir)
	out.field("settings", "%s", doc.Settings)
	for i, e := range doc.Endpoints {
		out.field([]string{"endpoint", ""}[min(i, 1)], "%s", e)
	}
	for i, h := range d.Settings.Forward.Homes {
		out.field([]string{"forwards to", ""}[min(i, 1)], "%s", h)
	}
	sayCertificate(out, doc)
	dir := ""
	if f.state != "" {
		dir = " --state-dir " + shellQuote(f.state)
	}
	fmt.Fprintf(out, "\nNext:\n  here          godwit gateway run%s\n  there         godwit key show NAME, for everyone who is to use it\n", dir)
}
