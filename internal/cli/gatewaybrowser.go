package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/transports/https/chrome"
)

func (a *app) gatewayBrowserCmd() *cobra.Command {
	return group("browser", "keep what clients look like up to date", a.browserAddCmd(), a.browserListCmd(), a.browserRemoveCmd())
}

// browserDoc is one profile that the gateway offers.
type browserDoc struct {
	Family  string    `json:"family"`
	Program string    `json:"program"`
	Signed  time.Time `json:"signed"`
	File    string    `json:"file"`
}

func browserDocOf(b gatewaydir.Browser) browserDoc {
	return browserDoc{string(b.Family()), b.String(), b.Date(), b.File}
}

func (a *app) browserAddCmd() *cobra.Command {
	var f gatewayFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add FILE", Short: "offer clients a newer version of a browser to look like",
		Long: `Clients look like the browser that their program was built with, until that is no
longer today's. This takes a profile of a newer version (docs/chrome.md says how one
is measured), checks it, signs it with the network's directory key and offers it:
a gateway that runs does so from now on. A client asks when it is first used, and then
once a day.

FILE is a profile in JSON, or one that is signed already, as it lies in the directory
of another gateway of the same network; - is standard input. It must be newer than what
is offered. To take one back, add the one before it again.`,
		Example: "  sudo godwit gateway browser add chrome.json", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := a.readProfile(args[0])
			if err != nil {
				return fmt.Errorf("FILE: %w", err)
			}
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			b, err := d.AddBrowser(text, time.Now())
			if err != nil {
				return fmt.Errorf("FILE: %w", err)
			}
			doc := browserDocOf(*b)
			if asJSON {
				return a.printJSON(struct {
					Schema string `json:"schema"`
					browserDoc
				}{"godwit.gateway.browser.add/1", doc})
			}
			fmt.Fprintf(a.stdout, "%s Clients that look like %s will look like this one, each within a day.\n", a.stdout.paint(good, "✓"),
				doc.Family)
			a.printBrowser(doc)
			return nil
		},
	}
	f.add(cmd)
	addJSON(cmd, &asJSON)
	return cmd
}

// readProfile reads a profile, signed or not.
func (a *app) readProfile(file string) ([]byte, error) {
	from := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	return io.ReadAll(io.LimitReader(from, chrome.MaxSigned+1)) // what is longer is refused as that
}

func (a *app) printBrowser(doc browserDoc) {
	a.stdout.field(doc.Family, "signed %s: %q", doc.Signed.UTC().Format("2006-01-02 15:04"), doc.Program)
	a.stdout.field("", "%s", doc.File)
}

func (a *app) browserListCmd() *cobra.Command {
	var f gatewayFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "list the browsers' profiles that are offered", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			all, listErr := d.Browsers()
			docs := []browserDoc{}
			for _, b := range all {
				docs = append(docs, browserDocOf(b))
			}
			if asJSON {
				return errors.Join(a.printJSON(struct {
					Schema   string       `json:"schema"`
					Browsers []browserDoc `json:"browsers"`
				}{"godwit.gateway.browser.list/1", docs}), listErr)
			}
			if len(docs) == 0 && listErr == nil {
				fmt.Fprintln(a.stdout, "None is offered: clients look like the browser that they were built with.")
			}
			for _, doc := range docs {
				a.printBrowser(doc)
			}
			return listErr
		},
	}
	f.add(cmd)
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) browserRemoveCmd() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "remove FAMILY", Short: "offer no profile of chrome or firefox any more", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			switch err := d.RemoveBrowser(chrome.Family(args[0])); {
			case errors.Is(err, fs.ErrNotExist):
				return fmt.Errorf("no profile of %.20q is offered: 'godwit gateway browser list' shows all of them", args[0])
			case err != nil:
				return err
			}
			fmt.Fprintf(a.stdout, "%s It is not offered any more. Clients that have it keep it: to take it back, add the one before it again.\n",
				a.stdout.paint(good, "✓"))
			return nil
		},
	}
	f.add(cmd)
	return cmd
}
