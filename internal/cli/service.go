package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/hostnet"
	"github.com/godwit-vpn/godwit/internal/local"
	"github.com/godwit-vpn/godwit/packaging/systemd"
)

// The client as a service of the machine's: one unit, and a state directory that is no user's.
const (
	serviceUnit  = "godwit.service"
	serviceFile  = "/etc/systemd/system/" + serviceUnit
	serviceState = systemState + "/client"
)

// errNoSystemd is matched where there is no systemd to give a service to.
var errNoSystemd = errors.New("this machine is not run by systemd, and no other service manager is known here yet: " +
	"have yours start 'godwit up --foreground --timeout 0'")

func (a *app) serviceCmd() *cobra.Command {
	return group("service", "have the client start with this machine (Linux with systemd)",
		a.serviceInstallCmd(), a.serviceRemoveCmd(), a.serviceStatusCmd())
}

// needService makes sure that there can be a service, and that it is this user's to change.
func needService(verb string) error {
	if err := needSystemd(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return &rootError{text: "services are root's to " + verb, command: "service " + verb}
	}
	return nil
}

// serviceArgs are what the unit gives to up besides what it always does.
func serviceArgs(f upFlags) []string {
	var args []string
	if f.tun {
		args = append(args, "--tun")
		if !f.lan {
			args = append(args, "--lan=false")
		}
		if f.router {
			args = append(args, "--router")
		}
		if f.namesFirst {
			args = append(args, "--names-first")
		}
		for _, s := range f.splitDNS {
			args = append(args, "--split-dns", unitQuote(s))
		}
	}
	if f.profile != defaultProfile {
		args = append(args, "--profile", f.profile)
	}
	return args
}

// unitQuote makes one word of a unit's command line (systemd.service(5)).
func unitQuote(s string) string {
	return `"` + strings.NewReplacer(`%`, `%%`, `\`, `\\`, `"`, `\"`, `$`, `$$`).Replace(s) + `"`
}

// unitText is the unit for the program in a place, with other flags than --tun.
func unitText(self string, args []string) string {
	const program = "/usr/local/bin/godwit"
	always, _, _ := strings.Cut(systemd.Client[strings.Index(systemd.Client, "ExecStart="+program):], " --tun\n")
	line := strings.Replace(always, program, unitQuote(self), 1)
	if self == program {
		line = always
	}
	return strings.Replace(systemd.Client, always+" --tun\n", strings.Join(append([]string{line}, args...), " ")+"\n", 1)
}

func (a *app) serviceInstallCmd() *cobra.Command {
	f := upFlags{service: true}
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "install [KEY | FILE | -]", Short: "carry this machine's traffic from its start", Args: upToOneArg,
		Long: `Installs and starts a service that carries all that this machine sends, as
'godwit up --tun' does, and again whenever the machine starts, from before its
network is up. What may not go beside the tunnel goes nowhere meanwhile: as long
as there is no network, or no way to the gateway, the machine is shut. Somebody
who comes in from afar, as by SSH, is cut off by it, unless from the local
network.

The key is given as to 'godwit up', saved in ` + serviceState + `,
where only root can read it, and not needed again. Installing again changes
flags, key or program.`,
		Example: "  sudo godwit service install 'godwit://…'\n  sudo godwit service install --router --lan=false\n" +
			"  sudo godwit service install --tun=false   # the proxy only",
		RunE: func(cmd *cobra.Command, args []string) error { return a.installService(cmd.Context(), f, wait, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", defaultProfile, "which of the service's saved access keys")
	flags.BoolVar(&f.tun, "tun", true, "carry everything this machine sends, and let nothing out beside the tunnel")
	f.machineFlags(flags)
	flags.DurationVar(&wait, "wait", 15*time.Second, "how long to wait for a way to the gateway; the service goes on trying")
	return cmd
}

func (a *app) installService(ctx context.Context, f upFlags, wait time.Duration, args []string) error {
	if err := f.needTUN(); err != nil {
		return err
	}
	cfg := f.config()
	if err := cfg.Check(); err != nil {
		return byFlag(err)
	}
	f.state = serviceState
	ps, err := a.profiles(f.clientFlags)
	if err != nil {
		return err
	}
	if err := needService("install"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err == nil {
		err = trusted(self)
	}
	if err != nil {
		return fmt.Errorf("%w: put it where programs are: sudo install -m 755 %s /usr/local/bin/godwit", err, self)
	}
	active, err := systemctl(ctx, "show", "--value", "--property=ActiveState", serviceUnit)
	if err != nil {
		return err
	}
	runs := active == "active" || active == "activating" || active == "reloading"
	if _, pid := hostnet.Captured(hostnet.Dir); pid != 0 && f.tun && !runs {
		return &hostnet.HeldError{PID: pid}
	}

	r := upRequest{upFlags: f, profiles: ps, profile: f.profile}
	before, beforeErr := ps.load(f.profile)
	if err := a.chooseKey(&r, args); err != nil {
		return err
	}
	if r.save {
		if err := ps.save(r.profile, r.key); err != nil {
			return err
		}
	}
	a.done("The access key is saved in %s, for root only.", ps.path(f.profile))
	changed := beforeErr != nil || before.Text() != r.key.Text()

	text := unitText(self, serviceArgs(f))
	if old, err := os.ReadFile(serviceFile); err != nil || string(old) != text {
		changed = true
		if err := writeUnit(text); err != nil {
			return fmt.Errorf("writing the unit: %w", err)
		}
		a.done("The unit is written: %s.", serviceFile)
	}
	if _, err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if _, err := systemctl(ctx, "enable", serviceUnit); err != nil {
		return err
	}
	a.done("It starts with this machine.")
	switch {
	case runs && !changed:
		a.done("It runs already, as it is to be.")
	case runs:
		_, err = systemctl(ctx, "restart", serviceUnit)
	default:
		_, err = systemctl(ctx, "start", serviceUnit)
	}
	if err != nil {
		return fmt.Errorf("%w: 'journalctl --unit godwit' has what it said", err)
	}
	if f.tun {
		a.done("This machine's network is shut, but for the tunnel%s.", map[bool]string{true: " and the local network"}[f.lan])
	}
	if doc, err := untilConnected(ctx, ps, f.profile, wait); err != nil {
		return err
	} else if doc.State == client.Connected {
		a.done("Up: data has flowed to the gateway and back. The proxy is on %s.", doc.Proxy)
	} else {
		fmt.Fprintf(a.stdout, "%s Not up yet: it goes on trying.\n", a.stdout.paint(alert, "…"))
		if doc.Error != "" {
			a.stdout.field("trouble", "%s", doc.Error)
		}
	}
	a.stdout.field("look", "sudo godwit status, or: sudo godwit service status")
	a.stdout.field("log", "journalctl --unit godwit")
	a.stdout.field("stop", "sudo godwit down    until the next start; the network is then as it was")
	a.stdout.field("end", "sudo godwit service remove")
	return nil
}

// done says that a step is done.
func (a *app) done(format string, args ...any) {
	fmt.Fprintf(a.stdout, "%s %s\n", a.stdout.paint(good, "✓"), fmt.Sprintf(format, args...))
}

// untilConnected waits for a way to the gateway, if there is one soon, and returns what became of it.
func untilConnected(ctx context.Context, ps profiles, profile string, wait time.Duration) (doc statusDoc, err error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	end := time.After(wait)
	for waits := true; waits; {
		if doc, err = ps.status(ctx, profile); err == nil && doc.State == client.Connected {
			return doc, nil
		}
		select {
		case <-tick.C:
		case <-end:
			waits = false
		case <-ctx.Done():
			return doc, context.Canceled
		}
	}
	if errors.Is(err, local.ErrNotRunning) {
		return doc, fmt.Errorf("the service does not stay up%s: 'journalctl --unit godwit' has what it said", ps.lastEnd(profile))
	}
	return doc, err
}

// writeUnit puts the unit in its place, readable for all as others are.
func writeUnit(text string) error {
	if err := writeFile(serviceFile, []byte(text)); err != nil {
		return err
	}
	return os.Chmod(serviceFile, 0o644)
}

// systemctl runs it, and returns what it printed.
func systemctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", args[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

func (a *app) serviceRemoveCmd() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use: "remove", Short: "stop the service, and give this machine its own network back", Args: noArgs,
		Long: `Stops the service, removes it, and undoes what it has changed of this machine's
network, also after a crash. The saved access keys stay in
` + serviceState + `, unless --purge is given.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needService("remove"); err != nil {
				return err
			}
			ctx := cmd.Context()
			_, err := os.Stat(serviceFile)
			installed := err == nil
			if installed {
				if _, err := systemctl(ctx, "disable", "--now", serviceUnit); err != nil {
					return err
				}
				if err := os.Remove(serviceFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("removing the unit: %w", err)
				}
				if _, err := systemctl(ctx, "daemon-reload"); err != nil {
					return err
				}
				a.done("The service is stopped and removed.")
			} else {
				fmt.Fprintln(a.stdout, "No service is installed.")
			}
			undone, err := hostnet.Rescue(hostnet.Dir)
			if errors.As(err, new(*hostnet.HeldError)) && !installed {
				return err // an 'up --tun' of somebody's
			} else if err != nil {
				return fmt.Errorf("giving this machine its network back: %w", err)
			}
			for _, what := range undone {
				a.done("%s", what)
			}
			if installed {
				a.done("This machine's network is its own.")
			}
			switch _, err := os.Stat(serviceState); {
			case err != nil:
			case purge:
				if err := os.RemoveAll(serviceState); err != nil {
					return fmt.Errorf("removing the saved access keys: %w", err)
				}
				a.done("The saved access keys are gone, and this machine's device keys with them.")
			default:
				a.stdout.field("kept", "%s, with the access key; 'sudo godwit service remove --purge' removes it", serviceState)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the saved access keys and the device's own key, too")
	return cmd
}

// serviceDoc is what service status --json prints.
type serviceDoc struct {
	Schema    string `json:"schema"`
	Installed bool   `json:"installed"`
	Enabled   bool   `json:"enabled"` // starts with the machine
	State     string `json:"state"`   // systemd's: active, activating, failed, inactive
	Says      string `json:"says,omitempty"`
	Restarts  string `json:"restarts"`
	// Shut says that this machine's network is Godwit's; with a service that is not active, that nothing gets out.
	Shut bool `json:"shut"`
}

func (a *app) serviceStatusCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "show how the service is; ends with 3 if it does not run", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needSystemd(); err != nil {
				return err
			}
			text, err := systemctl(cmd.Context(), "show",
				"--property=LoadState,UnitFileState,ActiveState,StatusText,NRestarts", serviceUnit)
			if err != nil {
				return err
			}
			is := map[string]string{}
			for line := range strings.Lines(text) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
				is[name] = value
			}
			doc := serviceDoc{Schema: "godwit.service/1", Installed: is["LoadState"] == "loaded",
				Enabled: is["UnitFileState"] == "enabled", State: is["ActiveState"], Says: is["StatusText"],
				Restarts: is["NRestarts"]}
			doc.Shut, _ = hostnet.Captured(hostnet.Dir)
			if asJSON {
				err = a.printJSON(doc)
			} else {
				a.printService(doc)
			}
			if err == nil && doc.State != "active" {
				err = fmt.Errorf("the service is %w", local.ErrNotRunning)
			}
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) printService(doc serviceDoc) {
	out := a.stdout
	if !doc.Installed {
		fmt.Fprintln(out, "No service is installed: 'sudo godwit service install' does it.")
	} else {
		colour := bad
		if doc.State == "active" {
			colour = good
		}
		fmt.Fprintf(out, "%s %s\n", out.paint(colour, "●"), out.paint(bold, doc.State))
		if doc.Says != "" {
			out.field("says", "%s", doc.Says)
		}
		out.field("at start", "%s", map[bool]string{true: "starts with this machine", false: "does not start with this machine"}[doc.Enabled])
		if doc.Restarts != "0" && doc.Restarts != "" {
			out.field("restarts", "%s by itself, after it had failed", doc.Restarts)
		}
	}
	switch {
	case doc.Shut && doc.State == "active":
		out.field("network", "shut, but for the tunnel: 'sudo godwit status' tells of that")
	case doc.Shut:
		out.field("network", "%s", out.paint(alert, "shut: 'sudo systemctl restart godwit' tries again, 'sudo godwit rescue' opens it"))
	default:
		out.field("network", "this machine's own")
	}
}

// tellEvery is how often a service manager is told that the client lives, and how it is.
const tellEvery = 5 * time.Second

// tellManager tells the service manager how the client is, until ctx is done. It asks the client each time, so one that
// hangs goes silent, and is started again.
func (a *app) tellManager(ctx context.Context, c *client.Client, shut bool) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		a.notify("WATCHDOG=1\nSTATUS=" + managerText(c.Status(), shut))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func managerText(st client.Status, shut bool) string {
	if st.State == client.Connected {
		return "connected, " + plural(len(st.Links), "link")
	}
	text := string(st.State) + ": no way to the gateway"
	if st.SomebodyElse && shut {
		text = string(st.State) + ": this network wants a login first, it seems: 'sudo godwit portal'"
	}
	if shut {
		text += "; until there is one this machine's network is shut"
	}
	return text
}

// findClient finds the process that is up: this user's, or else the machine's service. Where there is none, and this
// machine's network is Godwit's all the same, the error says so.
func (a *app) findClient(ps profiles, f clientFlags) (string, *local.Peer, error) {
	name, p, err := ps.findUp(f.profile)
	if f.state == "" && a.env("GODWIT_STATE_DIR") == "" && (errors.Is(err, local.ErrNotRunning) || errors.Is(err, errNoProfile)) {
		service := profiles{filepath.Join(serviceState, "profiles")}
		if name, p, err := service.findUp(f.profile); err == nil {
			return name, p, nil
		}
	}
	if errors.Is(err, local.ErrNotRunning) {
		if captured, pid := hostnet.Captured(hostnet.Dir); captured {
			err = &capturedError{pid: pid, root: os.Geteuid() == 0, err: err}
		}
	}
	return name, p, err
}
