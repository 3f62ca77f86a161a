package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/hostnet"
	"github.com/godwit-vpn/godwit/internal/hostnet/forwarding"
)

func (a *app) rescueCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "rescue", Short: "undo what a killed Godwit has left in this machine's network", Args: noArgs,
		Long: `Undoes what a Godwit that carried this machine's traffic, and was killed, has left:
the kill switch, routes and rules, kernel settings, and resolv.conf; and of a
gateway, forwarding and its firewall table. From then on programs reach the
network as if Godwit had never run, outside of any tunnel.

A Godwit that runs is left alone: 'godwit down' ends it. It needs root, or on Windows
an administrator.`,
		RunE: func(*cobra.Command, []string) error {
			undone, err := hostnet.Rescue(hostnet.Dir)
			more, forwardErr := forwarding.Rescue(forwarding.Dir)
			undone, err = append(undone, more...), errors.Join(err, forwardErr)
			if errors.Is(err, fs.ErrPermission) {
				err = &rootError{"only root may change this machine's network", "rescue", err}
			}
			if asJSON {
				if err != nil {
					return err
				}
				return a.printJSON(rescueDoc{"godwit.rescue/1", append([]string{}, undone...)})
			}
			for _, what := range undone {
				fmt.Fprintf(a.stdout, "%s %s\n", a.stdout.paint(good, "✓"), what)
			}
			if len(undone) == 0 && err == nil {
				fmt.Fprintln(a.stdout, "Nothing is left of a killed Godwit: there is nothing to undo.")
			}
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

// rescueDoc is what rescue --json prints.
type rescueDoc struct {
	Schema string   `json:"schema"`
	Undone []string `json:"undone"`
}
