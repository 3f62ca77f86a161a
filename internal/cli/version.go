package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "print the version", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				return a.printJSON(struct {
					Schema   string `json:"schema"`
					Version  string `json:"version"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
				}{"godwit.version/1", a.version, runtime.Version(), platform})
			}
			_, err := fmt.Fprint(a.stdout, a.versionLine())
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) versionLine() string {
	return fmt.Sprintf("godwit %s (%s, %s)\n", a.version, runtime.Version(), platform)
}

const platform = runtime.GOOS + "/" + runtime.GOARCH

func addJSON(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON document, whose schema only grows within a version")
}

// printJSON prints v as one document.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false) // access keys hold &
	e.SetIndent("", "  ")
	return e.Encode(v)
}
