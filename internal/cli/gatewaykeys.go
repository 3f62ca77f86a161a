package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/gatewaydir"
)

func (a *app) gatewayRotateKeyCmd() *cobra.Command {
	var f gatewayFlags
	var yes bool
	cmd := &cobra.Command{
		Use: "rotate-key", Short: "put the next TLS key in the place of the present one", Args: noArgs,
		Long: `Makes the next TLS key the gateway's, and a new next one. Do it when the present key
may have been copied. Certificates are renewed without it.

Access keys name two TLS keys: the one in use when they were printed, and the next.
So one rotation cuts off nobody, and a second one cuts off those who were not given
their access key again in between. Without --yes it says who that is, and changes
nothing.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			if !yes {
				a.sayWhoLosesAccess(d)
				return usagef("nothing was changed: add --yes to rotate the key")
			}
			resumed, err := d.RotateTLSKey()
			if err != nil {
				return err
			}
			mark := a.stdout.paint(good, "✓")
			if resumed {
				fmt.Fprintf(a.stdout, "%s The rotation that was interrupted is finished.\n", mark)
			} else {
				fmt.Fprintf(a.stdout, "%s The next TLS key is the gateway's now, and there is a new next one.\n", mark)
			}
			fmt.Fprint(a.stdout, "\nNow:\n  1. Start the gateway again: it uses the old key until then.\n"+
				"  2. Give everyone their access key again before the next rotation: 'godwit key show NAME'.\n")
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}

func (a *app) sayWhoLosesAccess(d *gatewaydir.Dir) {
	since := d.TLS.NextSince.Local().Format("2006-01-02 15:04")
	out := a.stdout
	fmt.Fprintf(out, "The key that comes into use is of %s.\n\n", since)
	out.field("go on", "devices whose access key was printed since then: it names that key")
	out.field("cut off", "devices whose access key was printed before: they need its text again, from 'godwit key show'")
	out.field("", "there are none if the gateway itself is no older, so that no key was ever rotated")
	if d.Settings.Certificate.Mode == "files" {
		out.field("certificate", "%s is for the present key: have one made of 'godwit gateway csr --next' first",
			d.Settings.Certificate.Chain)
	}
	fmt.Fprintln(out)
}

func (a *app) gatewayCSRCmd() *cobra.Command {
	var f gatewayFlags
	var next bool
	cmd := &cobra.Command{
		Use: "csr", Short: "print a certificate request for the gateway's TLS key", Args: noArgs,
		Long: `Prints a certificate signing request (PKCS #10, PEM) for the gateway's TLS key and
the hosts of its endpoints, for a CA that does not speak ACME. What the CA makes of
it goes into a file that certificate.chain in the settings names, with
certificate.mode = "files". The key itself stays where it is.`,
		Example: "  sudo godwit gateway csr > gateway.csr",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			request, err := d.CertificateRequest(next)
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(request)
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&next, "next", false, "for the next TLS key, before 'godwit gateway rotate-key'")
	return cmd
}
