package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/gatewaydir"
	"github.com/godwit-vpn/godwit/internal/keyinput"
)

func (a *app) keyCmd() *cobra.Command {
	return group("key", "hand out and revoke access keys",
		a.keyAddCmd(), a.keyListCmd(), a.keyShowCmd(), a.keyRevokeCmd())
}

// keyDoc is an access key as --json shows it.
type keyDoc struct {
	Schema     string     `json:"schema,omitempty"` // not inside of a list
	Name       string     `json:"name"`
	ID         string     `json:"id"`
	State      string     `json:"state"` // good, expired, revoked
	Devices    int        `json:"devices"`
	MaxDevices int        `json:"max_devices"`
	Expires    *time.Time `json:"expires"`           // null: never
	MonthBytes int64      `json:"month_bytes"`       // carried this month
	MonthLimit *int64     `json:"month_limit_bytes"` // null: none
	Key        string     `json:"key,omitempty"`     // not in lists, and not of a key that opens nothing
}

const (
	stateGood    = "good"
	stateExpired = "expired"
	stateRevoked = "revoked"
)

func keyState(k control.AccessKey, now time.Time) string {
	switch {
	case k.Revoked:
		return stateRevoked
	case !k.Expires.IsZero() && !now.Before(k.Expires):
		return stateExpired
	}
	return stateGood
}

// describeKey looks up what is to be told of a key besides the month's totals.
func describeKey(ctx context.Context, d *gatewaydir.Dir, k control.AccessKey, month control.Totals) (keyDoc, error) {
	doc := keyDoc{Name: k.Name, ID: hex.EncodeToString(k.ID[:]), State: keyState(k, time.Now()), MaxDevices: k.MaxDevices,
		MonthBytes: month.Keys[k.ID]}
	if k.Limit > 0 {
		doc.MonthLimit = &k.Limit
	}
	if !k.Expires.IsZero() {
		at := k.Expires.UTC()
		doc.Expires = &at
	}
	devices, err := d.Control.Devices(ctx, control.DeviceFilter{KeyID: k.ID})
	for _, v := range devices {
		if !v.Revoked {
			doc.Devices++
		}
	}
	return doc, err
}

func (a *app) keyAddCmd() *cobra.Command {
	var f gatewayFlags
	var devices int
	var expires, limit string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "add NAME", Short: "make an access key and print it", Args: oneArg,
		Long: `Makes an access key and prints it, with a QR code on a terminal. The name is for
you, to know whose it is. Hand the key out by a way that others cannot read.

With --limit, the key's devices together may carry so much in a calendar month
(UTC), both directions added. What they carried is added up every five seconds
or so; once the limit is reached their sessions are ended, and they are told so
and let in again next month. What flows until then is not cut: up to seven
seconds at full speed, 90 MB at 100 Mbit/s, by each gateway that is in use.`,
		Example: "  godwit key add mother --devices 2\n  godwit key add visitors --devices 20 --expires 30d --limit 100GB",
		RunE: func(cmd *cobra.Command, args []string) error {
			until, err := parseExpiry(expires, time.Now())
			if err != nil {
				return err
			}
			bytes, err := parseLimit(limit)
			if err != nil {
				return err
			}
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			k, err := d.Control.AddKey(cmd.Context(),
				control.AccessKey{Name: args[0], MaxDevices: devices, Expires: until, Limit: bytes})
			if err != nil {
				return err
			}
			return a.showKey(cmd.Context(), d, k, asJSON, func(doc keyDoc) {
				fmt.Fprintf(a.stderr, "%s Access key %q is made, for %s, %s%s.\n\n", a.stderr.paint(good, "✓"), doc.Name,
					plural(doc.MaxDevices, "device"), untilText(doc.Expires), limitText(doc.MonthLimit))
			})
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&devices, "devices", 5, "how many devices may use it")
	cmd.Flags().StringVar(&expires, "expires", "",
		"when it ends: 12h, 30d, 2w, 1y, or a date such as 2031-12-31 (default never)")
	cmd.Flags().StringVar(&limit, "limit", "",
		"what its devices may carry together in a month: 500MB, 100GB, 1TB, 100GiB (default none)")
	addJSON(cmd, &asJSON)
	return cmd
}

// showKey prints a key, and before it what say tells a person.
func (a *app) showKey(ctx context.Context, d *gatewaydir.Dir, k control.AccessKey, asJSON bool,
	say func(keyDoc)) error {
	month, err := d.Control.Totals(ctx, time.Now())
	if err != nil {
		return err
	}
	doc, err := describeKey(ctx, d, k, month)
	if err != nil {
		return err
	}
	if doc.State == stateGood {
		key, err := d.AccessKey(k)
		if err != nil {
			return err
		}
		doc.Key = key.Text()
	}
	if asJSON {
		doc.Schema = "godwit.key/1"
		return a.printJSON(doc)
	}
	if doc.Key == "" {
		return fmt.Errorf("access key %q is %s and opens nothing: 'godwit key add' makes another", doc.Name, doc.State)
	}
	if a.stdout.terminal {
		say(doc)
	}
	return a.printKey(doc.Key)
}

// printKey prints the text of a key and, on a terminal that is wide enough, its QR code.
func (a *app) printKey(text string) error {
	fmt.Fprintln(a.stdout, text)
	columns, err := keyinput.Columns(text)
	switch {
	case !a.stdout.terminal:
	case err != nil:
		return err
	case a.stdout.columns() < columns:
		fmt.Fprintf(a.stderr, "\n(Its QR code needs a terminal of %d columns; 'godwit key show NAME --png FILE' "+
			"makes a picture.)\n", columns)
	default:
		fmt.Fprintln(a.stdout)
		return keyinput.Terminal(a.stdout, text)
	}
	return nil
}

func untilText(expires *time.Time) string {
	if expires == nil {
		return "without end"
	}
	return "until " + expires.Local().Format("2006-01-02 15:04")
}

// limitText goes on after untilText.
func limitText(limit *int64) string {
	if limit == nil {
		return ""
	}
	return ", and " + size(*limit) + " a month"
}

// monthText is what was carried this month, of how much.
func monthText(doc keyDoc) string {
	switch text := size(doc.MonthBytes); {
	case doc.MonthLimit == nil:
		return text
	case doc.MonthBytes >= *doc.MonthLimit:
		return text + " of " + size(*doc.MonthLimit) + ", used up"
	default:
		return text + " of " + size(*doc.MonthLimit)
	}
}

func (a *app) keyListCmd() *cobra.Command {
	var f gatewayFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "list the access keys", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			keys, err := d.Control.Keys(cmd.Context())
			if err != nil {
				return err
			}
			month, err := d.Control.Totals(cmd.Context(), time.Now())
			if err != nil {
				return err
			}
			docs := []keyDoc{}
			for _, k := range keys {
				doc, err := describeKey(cmd.Context(), d, k, month)
				if err != nil {
					return err
				}
				docs = append(docs, doc)
			}
			if asJSON {
				return a.printJSON(struct {
					Schema string   `json:"schema"`
					Keys   []keyDoc `json:"keys"`
				}{"godwit.key.list/1", docs})
			}
			rows := [][]string{{"NAME", "STATE", "DEVICES", "EXPIRES", "THIS MONTH", "ID"}}
			for _, doc := range docs {
				expires := "never"
				if doc.Expires != nil {
					expires = doc.Expires.Local().Format("2006-01-02 15:04")
				}
				rows = append(rows, []string{doc.Name, doc.State, fmt.Sprintf("%d of %d", doc.Devices, doc.MaxDevices), expires,
					monthText(doc), doc.ID})
			}
			a.stdout.table(rows)
			return nil
		},
	}
	f.add(cmd)
	addJSON(cmd, &asJSON)
	return cmd
}

func (a *app) keyShowCmd() *cobra.Command {
	var f gatewayFlags
	var asJSON bool
	var picture string
	cmd := &cobra.Command{
		Use: "show NAME", Short: "print an access key again", Args: oneArg,
		Long: `Prints an access key: its text alone where the output is a file or pipe, with a
QR code on a terminal. With --png it makes a picture of the QR code instead.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && picture != "" {
				return usagef("flags --json and --png: give one of them")
			}
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			k, err := keyNamed(cmd.Context(), d, args[0])
			if err != nil {
				return err
			}
			if picture != "" && keyState(k, time.Now()) == stateGood {
				return a.writePicture(d, k, picture)
			}
			return a.showKey(cmd.Context(), d, k, asJSON, func(doc keyDoc) {
				fmt.Fprintf(a.stderr, "Access key %q: %d of %s, %s; %s this month.\n\n", doc.Name, doc.Devices,
					plural(doc.MaxDevices, "device"), untilText(doc.Expires), monthText(doc))
			})
		},
	}
	f.add(cmd)
	addJSON(cmd, &asJSON)
	cmd.Flags().StringVar(&picture, "png", "", "write a picture of the QR code to this file, which must not exist")
	return cmd
}

// keyNamed finds a key by its name.
func keyNamed(ctx context.Context, d *gatewaydir.Dir, name string) (control.AccessKey, error) {
	k, err := d.Control.KeyByName(ctx, name)
	if errors.Is(err, control.ErrKeyUnknown) { // whose text is for the key's holder
		return k, fmt.Errorf("no access key is called %q: 'godwit key list' shows all of them", name)
	}
	return k, err
}

// writePicture writes a key's QR code to a file that only its owner can read, and never over another one.
func (a *app) writePicture(d *gatewaydir.Dir, k control.AccessKey, path string) error {
	key, err := d.AccessKey(k)
	if err != nil {
		return err
	}
	b, err := keyinput.PNG(key.Text())
	if err != nil {
		return err
	}
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("flag --png: %q exists: remove it or choose another name", path)
	} else if err != nil {
		return fmt.Errorf("flag --png: %w", err)
	}
	_, err = w.Write(b)
	if err = errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("flag --png: %w", errors.Join(err, os.Remove(path)))
	}
	fmt.Fprintf(a.stderr, "%s %s holds access key %q: remove it once it is handed out.\n", a.stderr.paint(good, "✓"),
		path, k.Name)
	return nil
}

func (a *app) keyRevokeCmd() *cobra.Command {
	var f gatewayFlags
	cmd := &cobra.Command{
		Use: "revoke NAME", Short: "shut out everyone who uses an access key, for good", Args: oneArg,
		Long: `Shuts out everyone who uses the access key, now and for good: a gateway that runs
ends their sessions within a second. The name may be used for another key.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := a.open(cmd, f)
			if err != nil {
				return err
			}
			defer d.Close()
			k, err := keyNamed(cmd.Context(), d, args[0])
			if err != nil {
				return err
			}
			doc, err := describeKey(cmd.Context(), d, k, control.Totals{})
			if err != nil {
				return err
			}
			if err := d.Control.RevokeKey(cmd.Context(), args[0]); err != nil {
				return err
			}
			if doc.State == stateRevoked {
				fmt.Fprintf(a.stdout, "Access key %q was revoked already.\n", k.Name)
				return nil
			}
			fmt.Fprintf(a.stdout, "%s Access key %q is revoked, and with it %s.\n", a.stdout.paint(good, "✓"), k.Name,
				plural(doc.Devices, "device"))
			return nil
		},
	}
	f.add(cmd)
	return cmd
}

// shellQuote quotes a word for a shell where it needs that.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
