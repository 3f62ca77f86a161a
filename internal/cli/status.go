package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/local"
)

// watchEvery is how often --watch looks.
const watchEvery = time.Second

func addWatch(cmd *cobra.Command, watch *bool) {
	cmd.Flags().BoolVar(watch, "watch", false, "look again every second; with --json one document on each line")
}

// showStatus asks the process that find finds for its status, and shows it: once, or until it ends.
func showStatus[Doc any](ctx context.Context, a *app, find func() (*local.Peer, error), asJSON, watch bool,
	show func(*screen, Doc)) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for lines := 0; ; {
		p, err := find()
		if err != nil {
			return err
		}
		text, err := p.Status(ctx)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		switch {
		case asJSON && watch:
			err = json.Compact(&b, text)
			b.WriteByte('\n')
		case asJSON:
			err = json.Indent(&b, text, "", "  ")
			b.WriteByte('\n')
		default:
			var doc Doc
			if err = json.Unmarshal(text, &doc); err == nil {
				page := *a.stdout
				page.w = &b
				show(&page, doc)
			}
		}
		if err != nil {
			return fmt.Errorf("process %d answered what this version does not understand: %w", p.PID, err)
		}
		if watch && !asJSON {
			lines = a.redraw(&b, lines)
		}
		if _, err := a.stdout.Write(b.Bytes()); err != nil || !watch {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Canceled
		}
	}
}

// redraw makes b take the place of the lines printed before it, on a terminal; elsewhere a blank line sets them apart.
// It returns how many lines b has.
func (a *app) redraw(b *bytes.Buffer, before int) int {
	lines := bytes.Count(b.Bytes(), []byte("\n"))
	text := b.String()
	b.Reset()
	if !a.stdout.terminal {
		b.WriteString(text + "\n")
		return lines
	}
	if rows := a.stdout.rows(); rows > 0 && lines >= rows { // lines that have left the screen cannot be written again
		text, lines = strings.Join(strings.SplitAfter(text, "\n")[:rows-1], ""), rows-1
	}
	if before > 0 {
		fmt.Fprintf(b, "\x1b[%dA", before)
	}
	for line := range strings.Lines(text) { // what is there is written over, and what is left of a longer line goes: no flicker
		b.WriteString(strings.TrimSuffix(line, "\n") + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	return lines
}

// statusDoc is what status --json prints: the client's own status, and what only its process knows.
type statusDoc struct {
	Schema  string      `json:"schema"`
	Version string      `json:"version"`
	Profile string      `json:"profile"`
	KeyID   string      `json:"key_id"`
	PID     int         `json:"pid"`
	Since   time.Time   `json:"since"`
	Proxy   string      `json:"proxy"`
	Machine *machineDoc `json:"machine,omitempty"` // with --tun
	Rates   ratesDoc    `json:"rates"`
	client.Status
}

func (a *app) statusCmd() *cobra.Command {
	var f clientFlags
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use: "status", Short: "show how the tunnel is; ends with 3 if it is not up", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ps, err := a.profiles(f)
			if err != nil {
				return err
			}
			find := func() (*local.Peer, error) {
				_, p, err := a.findClient(ps, f)
				return p, err
			}
			return showStatus(cmd.Context(), a, find, asJSON, watch, printStatus)
		},
	}
	f.add(a, cmd)
	addJSON(cmd, &asJSON)
	addWatch(cmd, &watch)
	return cmd
}

// stateColours says at a glance how bad a state is.
var stateColours = map[client.State]string{
	client.Connected: good, client.Connecting: alert, client.Stalled: alert, client.Offline: bad,
}

func printStatus(out *screen, doc statusDoc) {
	now := time.Now()
	colour := stateColours[doc.State]
	fmt.Fprintf(out, "%s %s  profile %s, process %d, for %s\n", out.paint(colour, "●"),
		out.paint(bold, string(doc.State)), doc.Profile, doc.PID, ago(now.Sub(doc.Since)))
	if doc.Error != "" {
		out.field("trouble", "%s", out.paint(alert, fmt.Sprintf("%s (%s failed in a row)", doc.Error, plural(doc.Attempts,
			"attempt"))))
	}
	switch shut := doc.Machine != nil; {
	case doc.State == client.Connected:
	case doc.SomebodyElse && shut:
		out.field("next", "%s", out.paint(alert, "this network wants a login first, it seems: 'godwit portal'"))
	case doc.Attempts > len(doc.Ways):
		out.field("next", "'godwit doctor' finds out in a minute what this network does")
		if shut {
			out.field("", "'godwit portal', if it has a login page")
		}
	}
	out.field("proxy", "%s  SOCKS5 and HTTP, %s", doc.Proxy, plural(doc.Proxied, "connection"))
	if doc.Machine != nil && doc.TUN != nil {
		out.field("machine", "by %s: %s, %s", doc.Machine.TUN, plural(doc.TUN.Connections, "connection"),
			plural(doc.TUN.Questions, "DNS question"))
		out.field("blocked", "%s, on their way past it", plural(doc.Machine.Blocked, "packet"))
	}
	if doc.Machine != nil && doc.State != client.Connected {
		out.field("", "%s", out.paint(alert, "shut until it is connected: nothing goes beside the tunnel"))
	}
	if doc.Machine != nil && doc.Machine.Portal != nil {
		out.field("login", "%s", out.paint(alert, portalText(*doc.Machine.Portal)))
	}
	printRate(out, "down", doc.Rates.Down, doc.Rates.DownBefore, doc.Received)
	printRate(out, "up", doc.Rates.Up, doc.Rates.UpBefore, doc.Sent)
	out.field("streams", "%d", doc.Streams)
	printStalls(out, doc.Stalls, now)
	for i, l := range doc.Links {
		name := ""
		if i == 0 {
			name = "links"
		}
		state := ""
		if l.State != "healthy" {
			state = " " + out.paint(alert, l.State)
		}
		more := ""
		if l.Congestion != "" {
			more = ", " + l.Congestion
		}
		out.field(name, "%s%s, %.0f ms, %s down, %s up%s, for %s", l.Transport, state, l.RTT, size(l.Received), size(l.Sent), more,
			ago(now.Sub(l.Since)))
	}
	for i, w := range doc.Ways {
		if len(doc.Ways) == 1 {
			break
		}
		name := ""
		if i == 0 {
			name = "ways"
		}
		out.field(name, "%s", wayText(w, now))
	}
	for _, l := range doc.Leaving {
		out.field("leaving", "%s on %s to a gateway that is being replaced, until %s at the latest",
			plural(l.Streams, "stream"), plural(l.Links, "link"), l.Until.Local().Format("15:04"))
	}
	if doc.LinksLost > 0 && len(doc.Replacements) > 0 {
		last := doc.Replacements[len(doc.Replacements)-1]
		out.field("replaced", "%s; the last one %s ago: %s", plural(doc.LinksLost, "link"), ago(now.Sub(last.Time)),
			last.Cause)
	}
	device := doc.Device
	if !doc.CertUntil.IsZero() {
		device += ", certificate until " + doc.CertUntil.Local().Format(time.DateOnly)
	}
	out.field("device", "%s", device)
	if b := doc.Browser; b.Family != "" { // an older process says nothing of it
		out.field("looks like", "%s of %s, %s", b.Family, b.Date.UTC().Format(time.DateOnly), browserSources[b.Source])
	}
}

// printRate says how fast data flows one way, and on a terminal how fast it did.
func printRate(out *screen, way string, now float64, before []float64, all uint64) {
	line := ""
	if out.terminal {
		line = spark(before, 36) + "  "
	}
	out.field(way, "%-10s  %s%s in all", size(now)+"/s", line, size(all))
}

func printStalls(out *screen, s client.Stalls, now time.Time) {
	ms := func(n float64) string { return ago(time.Duration(n * float64(time.Millisecond))) }
	switch {
	case s.Now > 0:
		out.field("stalls", "%s", out.paint(alert, "nothing has come through for "+ms(s.Now)))
	case s.Lately > 0:
		out.field("stalls", "%d within the hour, the longest %s, the last %s ago", s.Lately, ms(s.Longest), ago(now.Sub(s.Last)))
	case s.Count > 0:
		out.field("stalls", "none within the hour, %d before", s.Count)
	default:
		out.field("stalls", "none")
	}
}

// browserSources says where a browser's profile is from.
var browserSources = map[string]string{"built-in": "built in", "network": "signed by the network"}

// wayText says what is known of a way across.
func wayText(w client.Way, now time.Time) string {
	text := fmt.Sprintf("%s (endpoint %d of the key): ", w.Transport, w.Endpoint)
	switch {
	case !w.Until.IsZero():
		text += "blocked after it had answered; left alone for " + ago(w.Until.Sub(now))
	case w.Links > 0:
		text += "carries " + plural(w.Links, "link")
	case w.Failures > 0:
		text += plural(w.Failures, "failure") + " in a row"
	case w.Worked.IsZero():
		text += "not needed yet"
	default:
		text += "worked " + ago(now.Sub(w.Worked)) + " ago"
	}
	if w.Found != "" {
		text += "; the doctor found it " + w.Found
	}
	if w.Outdone {
		text += "; another carried more"
	}
	if w.Error != "" {
		text += "; " + w.Error
	}
	return text
}

func (a *app) downCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: "down", Short: "end the tunnel; ends with 3 if it is not up", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ps, err := a.profiles(f)
			if err != nil {
				return err
			}
			name, p, err := a.findClient(ps, f)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), stopTimeout)
			defer cancel()
			if err := p.Stop(ctx); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s %s is down.\n", a.stdout.paint(good, "✓"), name)
			return nil
		},
	}
	f.add(a, cmd)
	return cmd
}

// stopTimeout bounds how long down waits.
const stopTimeout = 15 * time.Second

func (a *app) listCmd() *cobra.Command {
	var f clientFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "list the saved access keys, as profiles", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ps, err := a.profiles(f)
			if err != nil {
				return err
			}
			names, err := ps.names()
			if err != nil {
				return err
			}
			type profileDoc struct {
				Profile string `json:"profile"`
				KeyID   string `json:"key_id,omitempty"`
				Label   string `json:"label,omitempty"`
				Up      bool   `json:"up"`
				Proxy   string `json:"proxy,omitempty"`
				Error   string `json:"error,omitempty"`
			}
			docs := []profileDoc{}
			for _, name := range names {
				doc := profileDoc{Profile: name}
				if key, err := ps.load(name); err != nil {
					doc.Error = err.Error()
				} else {
					doc.KeyID, doc.Label = key.ID.String(), key.Label
				}
				if st, err := ps.status(cmd.Context(), name); err == nil {
					doc.Up, doc.Proxy = true, st.Proxy
				}
				docs = append(docs, doc)
			}
			if asJSON {
				return a.printJSON(struct {
					Schema   string       `json:"schema"`
					Profiles []profileDoc `json:"profiles"`
				}{"godwit.list/1", docs})
			}
			if len(docs) == 0 {
				fmt.Fprintln(a.stderr, "No access key is saved yet: godwit up 'godwit://…'")
				return nil
			}
			rows := [][]string{{"PROFILE", "KEY", "LABEL", "STATE"}}
			for _, doc := range docs {
				state := "down"
				if doc.Up {
					state = "up, proxy " + doc.Proxy
				}
				if doc.Error != "" {
					state += ", " + doc.Error
				}
				rows = append(rows, []string{doc.Profile, doc.KeyID, doc.Label, state})
			}
			a.stdout.table(rows)
			return nil
		},
	}
	cmd.Flags().StringVar(&f.state, "state-dir", "", stateUsage)
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) forgetCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: "forget NAME", Short: "remove a saved access key and the device's own key", Args: oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			ps, err := a.profiles(f)
			if err != nil {
				return err
			}
			if err := ps.forget(args[0]); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s Profile %q is forgotten.\n", a.stdout.paint(good, "✓"), args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&f.state, "state-dir", "", stateUsage)
	cmd.ValidArgsFunction = a.complete(&f)
	return cmd
}

// errNoProfile is matched when a profile is asked for that does not exist.
var errNoProfile = errors.New("no such profile: 'godwit list' shows all of them")
