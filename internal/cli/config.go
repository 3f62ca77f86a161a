package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

func (a *app) configCmd() *cobra.Command {
	return group("config", "check a gateway's settings", a.configCheckCmd())
}

func (a *app) configCheckCmd() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "check [FILE]", Short: "check gateway.toml, and say what is wrong with which line", Args: upToOneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			paths, err := a.gatewayPaths(f.state, f.settings)
			if err != nil {
				return err
			}
			file := paths.SettingsFile()
			if len(args) == 1 {
				file = args[0]
			}
			s, err := gatewaydir.ReadSettings(file)
			if errors.Is(err, fs.ErrNotExist) && len(args) == 0 {
				return fmt.Errorf("%q: %w", file, gatewaydir.ErrNotInitialised)
			} else if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s %s\n", a.stdout.paint(good, "✓"), file)
			for i, l := range s.Listen {
				a.stdout.field([]string{"listen", ""}[min(i, 1)], "%s", l)
			}
			for i, e := range s.Endpoints {
				a.stdout.field([]string{"endpoints", ""}[min(i, 1)], "%s", e)
			}
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
