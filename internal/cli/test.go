package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/survey"
)

// testFlags are what test is asked for.
type testFlags struct {
	clientFlags
	enrol, quick, asJSON bool
	url                  string
}

func (a *app) testCmd() *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use: "test [KEY | FILE | -]", Short: "see whether a gateway works from here, and what a stranger sees there",
		Args: upToOneArg,
		Long: `Looks at each gateway of an access key from this machine: whether it is reached,
what a stranger meets there, whether its door opens, and how fast it is. Nothing
is saved, and nothing of the key is sent to a server with another TLS key.

The key is given as to 'godwit up'. The device of a saved access key is shown
behind the door, if this machine has one; without one the door is tried all the
same, and the speed is not. Up to 32 MB are sent, which count as any traffic.

Ends with 0 if nothing failed, 4 if no door opened, 5 if the key or the device was
refused, and 6 if there is a way in and something else failed.`,
		Example: "  godwit test 'godwit://…'\n  godwit test --url https://example.com/large-file",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.test(cmd.Context(), f, args) },
	}
	f.add(a, cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.enrol, "enrol", false, "where there is no device, enrol one for this test: it takes one of the key's\n"+
		"places until it is revoked")
	flags.BoolVar(&f.quick, "quick", false, "leave out the speed")
	flags.StringVar(&f.url, "url", "", "fetch this through the gateway, for the speed down: at most 10 s or 256 MiB")
	addJSON(cmd, &f.asJSON)
	return cmd
}

// testDoc is what test --json prints.
type testDoc struct {
	Schema  string    `json:"schema"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	KeyID   string    `json:"key_id"`
	*survey.Report
}

func (a *app) test(ctx context.Context, f testFlags, args []string) error {
	cfg := survey.Config{Enrol: f.enrol, Quick: f.quick}
	if f.url != "" {
		u, err := url.Parse(f.url)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			return usagef("flag --url: %q is not a URL such as https://example.com/file", f.url)
		}
		cfg.URL = u
	}
	ps, err := a.profiles(f.clientFlags)
	if err != nil {
		return err
	}
	if cfg.Key, err = a.keyToTest(ps, f.profile, args); err != nil {
		return err
	}
	profile, dev, err := ps.device(ctx, cfg.Key.ID)
	if err != nil {
		return err
	}
	cfg.Device = dev
	switch {
	case f.url == "" || dev != nil && !dev.InUse:
	case dev != nil:
		return usagef("flag --url: profile %q is up with this device: 'godwit down --profile %s' first, or fetch "+
			"through its proxy", profile, profile)
	case !f.enrol:
		return usagef("flag --url: this machine has no device under this access key: 'godwit up' with it first, or give " +
			"--enrol, which takes one of its places")
	}
	if !f.asJSON {
		fmt.Fprintf(a.stdout, "Access key %s, from this machine\n", cfg.Key.ID)
		cfg.Begin = func(e *survey.Endpoint) {
			fmt.Fprintf(a.stdout, "\n%s\n", a.stdout.paint(bold, e.Transport+" "+e.Address))
		}
		cfg.Done = func(c survey.Check) {
			a.clearDoing()
			a.printCheck(c)
		}
	}
	cfg.Doing = a.showDoing
	began := time.Now()
	report, err := survey.Run(ctx, cfg)
	a.clearDoing()
	if err != nil {
		return err
	}
	if f.asJSON {
		doc := testDoc{"godwit.test/1", a.version, began.UTC().Truncate(time.Second), cfg.Key.ID.String(), report}
		if err := a.printJSON(doc); err != nil {
			return err
		}
	}
	if report.Verdict != survey.Works {
		return &testError{report}
	}
	if !f.asJSON {
		text := "It works from here."
		if cfg.Device == nil && !f.enrol {
			text = "Nothing failed, as far as can be told without a device."
		}
		fmt.Fprintf(a.stdout, "\n%s\n", a.stdout.paint(good, text))
	}
	return nil
}

// keyToTest finds the key that is meant, as up does, but saves nothing.
func (a *app) keyToTest(ps profiles, profile string, args []string) (accesskey.Key, error) {
	key, given, err := a.givenKey(args)
	if given || err != nil {
		return key, err
	}
	named := profile != ""
	if !named {
		if profile, err = ps.choose(); err != nil {
			return key, err
		}
	}
	if key, err = ps.load(profile); !errors.Is(err, errNoProfile) || named {
		return key, err
	}
	return a.askKey()
}

// device finds the device that this machine has enrolled under an access key, and the profile it belongs to; nil if there
// is none.
func (ps profiles) device(ctx context.Context, id accesskey.ID) (profile string, dev *survey.Device, err error) {
	names, err := ps.names()
	if err != nil {
		return "", nil, err
	}
	for _, name := range names {
		dir := ps.stateOf(name, id)
		dev := new(survey.Device)
		if dev.Key, err = device.Load(filepath.Join(dir, device.KeyFile)); err == nil {
			dev.Cert, err = device.LoadCertificate(filepath.Join(dir, device.CertificateFile))
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return "", nil, fmt.Errorf("profile %q: the device's files: %w", name, err)
		}
		doc, err := ps.status(ctx, name)
		dev.InUse = err == nil && doc.KeyID == id.String()
		return name, dev, nil
	}
	return "", nil, nil
}

// marks says how a check went at a glance.
var marks = map[survey.Outcome]struct{ colour, text string }{
	survey.Good: {good, "✓"}, survey.Warning: {alert, "!"}, survey.Failed: {bad, "✗"}, survey.Skipped: {faint, "–"},
}

func (a *app) printCheck(c survey.Check) {
	mark := marks[c.Outcome]
	fmt.Fprintf(a.stdout, "  %s %s %s\n", a.stdout.paint(mark.colour, mark.text), a.stdout.paint(faint,
		fmt.Sprintf("%-11s", c.Name)), c.Detail)
	if c.Next != "" {
		fmt.Fprintf(a.stdout, "    %-11s → %s\n", "", c.Next)
	}
}

// showDoing tells a person who waits what for.
func (a *app) showDoing(what string) {
	if a.stderr.terminal {
		fmt.Fprintf(a.stderr, "\r\x1b[K  %s", a.stderr.paint(faint, "… "+what))
	}
}

func (a *app) clearDoing() {
	if a.stderr.terminal {
		fmt.Fprint(a.stderr, "\r\x1b[K")
	}
}

// testError is a test whose report is not all good.
type testError struct{ report *survey.Report }

func (e *testError) Error() string {
	switch e.report.Verdict {
	case survey.Blocked:
		return "no way to the gateway was found from here"
	case survey.Refused:
		return "the gateway can be reached from here, and does not let this access key in"
	}
	return "there is a way to the gateway from here, and " + plural(e.report.Failures, "check") + " failed"
}

func (e *testError) code() int {
	switch e.report.Verdict {
	case survey.Blocked:
		return exitBlocked
	case survey.Refused:
		return exitRefused
	}
	return exitPartly
}
