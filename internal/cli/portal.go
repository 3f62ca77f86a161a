package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/local"
	"github.com/godwit-vpn/godwit/internal/portal"
)

var (
	errPortalConnected = errors.New("the tunnel is connected: this network wants no login")
	errNotShut         = errors.New("the tunnel does not carry this machine: log in to the network with any browser")
)

// portalError is why no way past the tunnel was opened, in the process's words.
type portalError struct{ text string }

func (e *portalError) Error() string { return e.text }

func (e *portalError) hint() string {
	switch {
	case e.text == errPortalConnected.Error():
		return ""
	case e.text == portal.ErrNone.Error():
		return "'godwit doctor' finds out what keeps the gateway away; --open lets a browser out all the same"
	}
	return "if a browser is to find out, --open lets one go anywhere for that time"
}

type portalFlags struct {
	clientFlags
	ask       portalAsk
	noBrowser bool
	asJSON    bool
}

func (a *app) portalCmd() *cobra.Command {
	var f portalFlags
	cmd := &cobra.Command{
		Use: "portal", Short: "log in to a network that wants it, as hotels' do, while 'up --tun' has it shut", Args: noArgs,
		Long: `Finds this network's login page, and starts a browser for it alone, which reaches that
page past the tunnel: for a while, with everything else of this machine shut as it was.
It ends when the tunnel is connected, with its time, with ^C, or with --end; asked again,
it goes on for longer.

The network sees which page is asked for, as of any machine that logs in.`,
		Example: "  sudo godwit portal\n  sudo godwit portal --for 10m\n  sudo godwit portal --open",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.portal(cmd.Context(), f) },
	}
	f.add(a, cmd)
	flags := cmd.Flags()
	flags.DurationVar(&f.ask.For, "for", 5*time.Minute, fmt.Sprintf("how long it takes at most, up to %v", mostPortal))
	flags.BoolVar(&f.ask.Open, "open", false, "let that browser go anywhere, for pages that need other sites; all that it\ndoes then is the network's to see")
	flags.BoolVar(&f.ask.End, "end", false, "shut it before its time")
	flags.BoolVar(&f.noBrowser, "no-browser", false, "start none: tell the proxy for one")
	addJSON(cmd, &f.asJSON)
	cmd.Flags().Lookup("json").Usage = "print JSON, and return at once; starts no browser"
	return cmd
}

func (a *app) portal(ctx context.Context, f portalFlags) error {
	if f.ask.For <= 0 || f.ask.For > mostPortal {
		return usagef("flag --for: %v is not above 0 and at most %v", f.ask.For, mostPortal)
	}
	ps, err := a.profiles(f.clientFlags)
	if err != nil {
		return err
	}
	_, p, err := a.findClient(ps, f.clientFlags)
	if err != nil {
		return err
	}
	before, err := statusOf(ctx, p)
	if err != nil {
		return err
	}
	if before.Machine == nil {
		return errNotShut
	}
	got, err := askPortal(ctx, p, f.ask)
	if err != nil {
		return err
	}
	if f.asJSON {
		return a.printJSON(struct {
			Schema string     `json:"schema"`
			Way    *portalDoc `json:"way"`
		}{"godwit.portal/1", got.Way})
	}
	if f.ask.End || got.Way == nil {
		fmt.Fprintf(a.stdout, "%s Nothing goes past the tunnel.\n", a.stdout.paint(good, "✓"))
		return nil
	}
	defer a.endPortal(p)
	return a.guidePortal(ctx, p, f, *got.Way, before.Machine.Portal != nil)
}

// guidePortal has a browser show the page, and counts down until the way is shut.
func (a *app) guidePortal(ctx context.Context, p *local.Peer, f portalFlags, way portalDoc, extended bool) error {
	out := a.stdout
	where := "only to the login page"
	if way.Open {
		where = out.paint(alert, "anywhere, for this network to see")
	}
	fmt.Fprintf(out, "%s One browser gets past the tunnel, %s. Everything else stays shut.\n", out.paint(good, "✓"), where)
	var b *loginBrowser
	if !f.noBrowser && !extended {
		var err error
		if b, err = a.startBrowser(way); err == nil {
			defer b.close()
			out.field("browser", "%s, with a profile for this alone: log in there", b.name)
		} else {
			out.field("browser", "none was started: %v", err)
		}
	}
	if b == nil {
		a.byHand(way)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	refused, counted := 0, false
	clear := func() {
		if counted {
			fmt.Fprint(out, "\r\x1b[K")
		}
	}
	for {
		if out.terminal {
			clear()
			fmt.Fprintf(out, "  %s left; ^C ends it", ago(time.Duration(way.Left)*time.Second))
			counted = true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			clear()
			return context.Canceled
		case <-b.ended():
			clear()
			if b.failed() {
				out.field("browser", "%s has ended at once", b.name)
				a.byHand(way)
				b = nil
				continue
			}
			fmt.Fprintf(out, "%s The browser was closed, and nothing goes past the tunnel. 'godwit status' tells whether it is connected.\n",
				out.paint(good, "✓"))
			return nil
		}
		doc, err := statusOf(ctx, p)
		if err != nil {
			clear()
			return err
		}
		if doc.Machine == nil || doc.Machine.Portal == nil {
			clear()
			if doc.State == client.Connected {
				fmt.Fprintf(out, "%s Connected, and nothing goes past the tunnel any more.\n", out.paint(good, "✓"))
				return nil
			}
			return &blockedError{after: f.ask.For, last: "its time is over, and nothing goes past the tunnel any more",
				hint: "'godwit portal' begins again; 'godwit status' tells why it is not connected"}
		}
		way = *doc.Machine.Portal
		if len(way.Refused) > refused {
			clear()
			out.field("refused", "%s", strings.Join(way.Refused[refused:], ", "))
			if refused == 0 {
				out.field("", "if the page lacks something for it: 'godwit portal --open'")
			}
		}
		refused = len(way.Refused)
	}
}

// portalText is what status says of a way that is open.
func portalText(way portalDoc) string {
	what := "one browser may log in past the tunnel"
	if way.Open {
		what = "one browser may go anywhere, past the tunnel"
	}
	return fmt.Sprintf("%s, for %s yet", what, ago(time.Duration(way.Left)*time.Second))
}

// byHand says how to log in with a browser that the person starts.
func (a *app) byHand(way portalDoc) {
	a.stdout.field("proxy", "http://%s  for a browser of your own, that has nothing else open", way.Proxy)
	a.stdout.field("page", "%s", way.URL)
}

// endPortal shuts the way, whatever has ended the command.
func (a *app) endPortal(p *local.Peer) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	_, _ = askPortal(ctx, p, portalAsk{End: true}) // it shuts by itself otherwise
}

func askPortal(ctx context.Context, p *local.Peer, ask portalAsk) (answer portalAnswer, err error) {
	text, err := json.Marshal(ask)
	if err == nil {
		text, err = p.Portal(ctx, text)
	}
	if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	if err == nil && answer.Error != "" {
		err = &portalError{answer.Error}
	}
	return answer, err
}

func statusOf(ctx context.Context, p *local.Peer) (doc statusDoc, err error) {
	text, err := p.Status(ctx)
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	return doc, err
}
