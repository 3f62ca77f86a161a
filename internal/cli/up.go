package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/keyinput"
	"github.com/godwit-vpn/godwit/internal/local"
	"github.com/godwit-vpn/godwit/internal/transports"
)

// upFlags are what up is asked for.
type upFlags struct {
	clientFlags
	proxy      string
	proxyGiven bool // on the command line
	links      int
	transports []string
	browser    string
	fragment   string
	shape      string
	resolvers  []string
	namesFirst bool
	splitDNS   []string
	congestion string
	timeout    time.Duration
	tun        bool
	lan        bool
	router     bool
	foreground bool
	// service is given by the unit of 'godwit service': nothing but being asked to stop opens the machine's network, and there is
	// a service manager to tell how things are.
	service bool
	// report is given by up to the process it starts in the background: it reads the key from standard input, says on
	// standard output, in one line of JSON, whether it is up, and logs to a file.
	report bool
}

func (a *app) upCmd() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use: "up [KEY | FILE | -]", Short: "connect, and serve a proxy on this machine", Args: upToOneArg,
		Long: `Connects to the gateway of an access key, and serves a SOCKS5 and HTTP proxy on this
machine whose traffic leaves there. Returns once data has flowed; the tunnel goes
on in the background until 'godwit down'.

The key is the text that begins with godwit://, in single quotes; or a file with
it, or with a picture of its QR code; or - for standard input; or GODWIT_KEY. It
is saved, and not needed again.`,
		Example: "  godwit up 'godwit://…'\n  godwit up\n  sudo godwit up --tun\n  godwit up picture.png --profile office --proxy 127.0.0.1:1081",
		RunE: func(cmd *cobra.Command, args []string) error {
			f.proxyGiven = cmd.Flags().Changed("proxy")
			err := a.up(cmd.Context(), f, args)
			if f.report && err != nil {
				p := explain(err)
				a.report(report{Problem: p.text, Hint: p.hint, Code: p.code})
			}
			return err
		},
	}
	f.add(a, cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.proxy, "proxy", "127.0.0.1:1080", "address of the proxy, on this machine; port 0 takes any")
	flags.IntVar(&f.links, "links", 0, fmt.Sprintf("how many connections to keep, 1 to %d (default %d, and one more\n"+
		"where the network loses much)", client.MaxLinks, client.DefaultLinks))
	flags.StringSliceVar(&f.transports, "transport", nil, "use only these, of "+strings.Join(transports.Names(), ", ")+" (default all)")
	flags.StringVar(&f.browser, "browser", "", "whose visits this device's look like, chrome or firefox (default drawn for the\ndevice, once for all)")
	flags.StringVar(&f.fragment, "fragment", "none", "cut the first message inside of the name it asks for: tcp, record or both;\n"+
		"some firewalls miss the name then, and no browser does it")
	flags.StringVar(&f.shape, "shape", "low", "how much to hide what is inside of the links: off, low or high")
	flags.StringSliceVar(&f.resolvers, "resolver", nil, "whom transport dns asks: an address, or tcp://, tls:// or https:// and where\nit is (default the system's)")
	flags.StringVar(&f.congestion, "congestion", "",
		"congestion control; \"system\" leaves it to the system (default bbr)")
	flags.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long to try before giving up; 0 is without end")
	flags.BoolVar(&f.tun, "tun", false, "carry everything this machine sends, and let nothing out beside the tunnel (root)")
	f.machineFlags(flags)
	flags.BoolVar(&f.foreground, "foreground", false, "stay, and log here, until interrupted")
	flags.BoolVar(&f.report, "report", false, "")
	flags.MarkHidden("report")
	flags.BoolVar(&f.service, "service", false, "")
	flags.MarkHidden("service")
	return cmd
}

// upRequest is what up decided to do.
type upRequest struct {
	upFlags
	profiles profiles
	profile  string
	key      accesskey.Key
	// save says when the key is to be saved: at once where nothing is lost by it, and where the profile holds another key
	// only once this one has worked.
	save bool
	// machine is what has been taken already, before anything could fail; nil leaves it to runClient.
	machine *machine
}

// machineFlags are those that say how --tun carries the machine.
func (f *upFlags) machineFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&f.lan, "lan", true, "with --tun: let the local network be reached")
	flags.BoolVar(&f.router, "router", false, "with --tun: forward for the machines behind this one, too, as a router; what\n"+
		"is forwarded anyway is carried without it")
	flags.BoolVar(&f.namesFirst, "names-first", false, "with --tun: answer questions for names at once, with addresses that stand for\n"+
		"them; saves a round trip, and makes rules about domains exact")
	flags.StringArrayVar(&f.splitDNS, "split-dns", nil, "with --tun: whom to ask about a domain, as corp.example=192.0.2.53, through\n"+
		"the tunnel; or past it, as corp.example=direct:192.0.2.53, or direct:network\n"+
		"for this network's resolvers; again for more")
}

// needTUN says which of them is there without --tun.
func (f *upFlags) needTUN() error {
	for flag, given := range map[string]bool{"router": f.router, "names-first": f.namesFirst, "split-dns": len(f.splitDNS) > 0} {
		if given && !f.tun {
			return usagef("flag --%s: it takes --tun", flag)
		}
	}
	return nil
}

// config is what the flags say of the client.
func (f *upFlags) config() client.Config {
	cfg := client.Config{Links: f.links, Transports: f.transports, Browser: f.browser, Fragment: f.fragment, Shape: f.shape,
		Resolvers: f.resolvers, Congestion: f.congestion, SplitDNS: f.splitDNS}
	if f.namesFirst {
		cfg.NamesFirst = []netip.Prefix{firstPrefix4, firstPrefix6}
	}
	return cfg
}

// upFlagOf names the flags that client's fields come from.
var upFlagOf = map[string]string{"Links": "links", "Transports": "transport", "Browser": "browser", "Fragment": "fragment",
	"Shape": "shape", "Resolvers": "resolver", "Congestion": "congestion",
	"SplitDNS": "split-dns", "NamesFirst": "names-first"}

// byFlag names the flag in an error of the client's that names a field.
func byFlag(err error) error {
	var field *client.FieldError
	if !errors.As(err, &field) || upFlagOf[field.Field] == "" {
		return err
	}
	return usagef("flag --%s: %w", upFlagOf[field.Field], field.Err)
}

func (a *app) up(ctx context.Context, f upFlags, args []string) error {
	var err error
	if f.proxy, err = parseProxy(f.proxy); err != nil {
		return err
	}
	if f.timeout < 0 {
		return usagef("flag --timeout: %v is negative", f.timeout)
	}
	cfg := f.config()
	if err := cfg.Check(); err != nil {
		return byFlag(err)
	}
	if err := f.needTUN(); err != nil {
		return err
	}
	if f.router && runtime.GOOS != "linux" {
		return usagef("flag --router: it is for Linux only: leave it out")
	}
	ps, err := a.profiles(f.clientFlags)
	if err != nil {
		return err
	}
	if f.tun && runtime.GOOS != "linux" && !f.report {
		fmt.Fprintln(a.stderr, "godwit up --tun has not been tested on this system yet: docs/machine.md says what to check")
	}
	r := upRequest{upFlags: f, profiles: ps, profile: f.profile}
	if f.service && f.tun {
		if r.machine, err = takeMachine(&f); err != nil {
			return err
		}
	}
	if err := a.chooseKey(&r, args); err != nil {
		return err
	}
	if f.foreground || f.service {
		return a.upForeground(ctx, r)
	}
	return a.upBackground(ctx, r)
}

// chooseKey finds the key that is meant, and the profile: an argument, the environment, what is saved, what is typed.
func (a *app) chooseKey(r *upRequest, args []string) (err error) {
	key, given, err := a.givenKey(args)
	if err != nil {
		return err
	}
	if r.profile == "" {
		// A key that comes without a name is the default one, whatever others there are.
		if r.profile = defaultProfile; !given {
			if r.profile, err = r.profiles.choose(); err != nil {
				return err
			}
		}
	}
	saved, savedErr := r.profiles.load(r.profile)
	switch {
	case given:
		r.key = key
	case savedErr == nil:
		r.key = saved
	case !errors.Is(savedErr, errNoProfile):
		return savedErr
	default:
		if r.key, err = a.askKey(); err != nil {
			if r.clientFlags.profile != "" && errors.Is(err, keyinput.ErrNoKey) {
				return fmt.Errorf("%w (%w)", savedErr, err)
			}
			return err
		}
	}
	if err := r.profiles.make(r.profile); err != nil {
		return err
	}
	switch {
	case savedErr != nil: // nothing, or something that cannot be read, would be lost
		return r.profiles.save(r.profile, r.key)
	case saved.Text() == r.key.Text():
	case saved.ID == r.key.ID && saved.Pin == r.key.Pin: // the same one with newer addresses
		return r.profiles.save(r.profile, r.key)
	default:
		r.save = true
	}
	return nil
}

// givenKey reads the key that the command line or the environment gives, if one does.
func (a *app) givenKey(args []string) (key accesskey.Key, given bool, err error) {
	arg := ""
	if len(args) == 1 {
		arg = takeArgument(args[0])
	}
	if arg == "" && strings.TrimSpace(a.env(keyinput.Variable)) == "" {
		return key, false, nil
	}
	key, source, err := keyinput.Read(arg, a.stdin, a.env)
	if errors.Is(err, accesskey.ErrTruncated) && source == "the argument" {
		err = fmt.Errorf("%w; a shell cuts it at &: put it in single quotes", err)
	}
	return key, true, err
}

// askKey asks for the key at a terminal. What is typed is not shown.
func (a *app) askKey() (accesskey.Key, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || !a.stderr.terminal {
		return accesskey.Key{}, keyinput.ErrNoKey
	}
	fmt.Fprint(a.stderr, "Paste the access key, and press Enter (it is not shown): ")
	text, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.stderr)
	if err != nil {
		return accesskey.Key{}, err
	}
	if strings.TrimSpace(string(text)) == "" {
		return accesskey.Key{}, keyinput.ErrNoKey
	}
	return accesskey.Parse(string(text))
}

// upForeground runs the client here.
func (a *app) upForeground(ctx context.Context, r upRequest) error {
	to := a.stderr
	if r.report {
		file, err := openLog(r.profiles.path(r.profile))
		if err != nil {
			return err
		}
		defer file.Close()
		to = &screen{w: file}
	}
	log, err := a.logger(slog.LevelInfo, to)
	if err != nil {
		return err
	}
	return a.runClient(ctx, r, log, func(proxy string) {
		if r.report {
			a.report(report{Proxy: proxy, PID: os.Getpid()})
			return
		}
		fmt.Fprintf(a.stdout, "%s up, proxy on %s\n", a.stdout.paint(good, "✓"), proxy)
	})
}

// upBackground leaves the client running, unless it is already.
func (a *app) upBackground(ctx context.Context, r upRequest) error {
	began := time.Now()
	if doc, err := r.profiles.status(ctx, r.profile); err == nil {
		return a.alreadyUp(ctx, r, doc)
	} else if !errors.Is(err, local.ErrNotRunning) {
		return err
	}
	got, err := a.startBackground(ctx, r)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "%s Up: data has flowed to the gateway and back, after %s.\n", a.stdout.paint(good, "✓"),
		ago(time.Since(began)))
	var m *machineDoc
	if r.tun {
		m = &machineDoc{LAN: r.lan}
	}
	a.printUp(r.profile, got.Proxy, m)
	return nil
}

// printUp says how to use a tunnel that is up.
func (a *app) printUp(profile, proxy string, m *machineDoc) {
	out := a.stdout
	more := ""
	if profile != defaultProfile {
		more = " --profile " + profile
	}
	if m != nil {
		past := "nothing past it"
		if m.LAN {
			past = "nothing past it but to the local network"
		}
		out.field("machine", "all that it sends goes through the tunnel, and %s", past)
		out.field("proxy", "%s  for SOCKS5 and HTTP, as well", proxy)
		out.field("look", "godwit status%s", more)
		out.field("end", "godwit down%s; after a crash: godwit rescue", more)
		return
	}
	out.field("proxy", "%s  for SOCKS5 and HTTP; names are looked up at the gateway", proxy)
	out.field("try", "curl --proxy socks5h://%s https://example.com", proxy)
	out.field("look", "godwit status%s", more)
	out.field("end", "godwit down%s", more)
}

// alreadyUp answers an up for a profile that is: it is enough that data flows, if nothing else was asked for.
func (a *app) alreadyUp(ctx context.Context, r upRequest, doc statusDoc) error {
	switch {
	case doc.KeyID != r.key.ID.String():
		return &alreadyUpError{profile: r.profile, pid: doc.PID, what: "with another access key"}
	case r.tun && doc.Machine == nil:
		return &alreadyUpError{profile: r.profile, pid: doc.PID, what: "as a proxy, without --tun"}
	case r.proxyGiven && doc.Proxy != r.proxy && !strings.HasSuffix(r.proxy, ":0"):
		return &alreadyUpError{profile: r.profile, pid: doc.PID, what: "with its proxy on " + doc.Proxy}
	}
	wait := ctx
	if r.timeout > 0 {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for doc.State != client.Connected {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Canceled
		case <-wait.Done():
			blocked := &blockedError{after: r.timeout, last: doc.Error}
			if doc.SomebodyElse && doc.Machine != nil {
				blocked.hint = "this network wants a login first, it seems: 'godwit portal'"
			}
			return blocked
		}
		var err error
		if doc, err = r.profiles.status(ctx, r.profile); err != nil {
			if errors.Is(err, local.ErrNotRunning) {
				return fmt.Errorf("profile %q is %w any more%s", r.profile, errNotUp, r.profiles.lastEnd(r.profile))
			}
			return err
		}
	}
	fmt.Fprintf(a.stdout, "%s Up already, as process %d.\n", a.stdout.paint(good, "✓"), doc.PID)
	a.printUp(r.profile, doc.Proxy, doc.Machine)
	return nil
}
