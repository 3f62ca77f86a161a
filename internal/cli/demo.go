package cli

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/demo"
)

// maxDemoSize is the largest download, in MB: it takes no disk, but time.
const maxDemoSize = 100_000

func (a *app) demoCmd() *cobra.Command {
	var once, asJSON bool
	var megabytes int64
	cmd := &cobra.Command{
		Use: "demo", Short: "show all of it on this machine: a gateway, a client, and a network that cuts", Args: noArgs,
		Long: `Makes a gateway, a client and two web sites on this machine, with a network between
them that is cut in the middle of a download: once with a reset, once by
swallowing everything. Needs no root and no network, and leaves nothing behind.
Ends with 0 only if everything arrived whole.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if megabytes < 1 || megabytes > maxDemoSize {
				return usagef("flag --size: %d is not from 1 to %d", megabytes, maxDemoSize)
			}
			log, err := a.logger(slog.LevelError, a.stderr)
			if err != nil {
				return err
			}
			cfg := demo.Config{Size: megabytes * 1e6, Hold: !once && !asJSON, Logger: log}
			if !asJSON {
				cfg.Screen = demo.Screen{W: a.stdout, Terminal: a.stdout.terminal, Colour: a.stdout.colour}
			}
			began := time.Now()
			result, err := demo.Run(cmd.Context(), cfg)
			switch {
			case asJSON && len(result.Checks) > 0:
				doc := struct {
					Schema string `json:"schema"`
					demo.Result
				}{"godwit.demo/1", result}
				if printErr := a.printJSON(doc); err == nil {
					err = printErr
				}
			case err == nil && once:
				fmt.Fprintf(a.stdout, "\n%s in %s\n", a.stdout.paint(good, "all passed"), ago(time.Since(began)))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the checks, instead of leaving the proxy to be tried")
	cmd.Flags().Int64Var(&megabytes, "size", demo.DefaultSize/1e6, "size of the download, in MB")
	addJSON(cmd, &asJSON)
	return cmd
}
