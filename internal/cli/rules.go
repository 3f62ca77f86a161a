package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/rules"
)

// rulesFile is the file of rules in the client's state directory.
const rulesFile = "rules.toml"

// rules is that file, if there is one.
func (ps profiles) rules() string {
	path := filepath.Join(filepath.Dir(ps.dir), rulesFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}

func (a *app) rulesCmd() *cobra.Command {
	return group("rules", "see what the rules say: which traffic goes through the tunnel", a.rulesTestCmd(), a.rulesReloadCmd())
}

func (a *app) rulesReloadCmd() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: "reload", Short: "have the tunnel that is up heed the rules as they are now; ends with 3 if none is", Args: noArgs,
		Long: `Has the client that is up read its file of rules, and the lists that it names, again.
Connections that there are stay as they are. Where the file has a mistake nothing
changes.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ps, err := a.profiles(f)
			if err != nil {
				return err
			}
			name, p, err := a.findClient(ps, f)
			if err != nil {
				return err
			}
			if err := p.Reload(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s %s heeds its rules as they are now.\n", a.stdout.paint(good, "✓"), name)
			return nil
		},
	}
	f.add(a, cmd)
	return cmd
}

// ruleDoc is what rules test --json prints.
type ruleDoc struct {
	Schema string       `json:"schema"`
	File   string       `json:"file"`
	Target string       `json:"target"`
	Action rules.Action `json:"action"`
	// Rule is the one that matched; absent if none did.
	Rule *ruleInDoc `json:"rule,omitempty"`
	// Unsure is an earlier one that may match once more is known: the name's address, the user, the control group.
	Unsure *ruleInDoc `json:"unsure,omitempty"`
	Why    string     `json:"why"`
}

type ruleInDoc struct {
	Number int          `json:"number"`
	Line   int          `json:"line"`
	Name   string       `json:"name,omitempty"`
	Action rules.Action `json:"action"`
}

func inDoc(r *rules.Rule) *ruleInDoc {
	if r == nil {
		return nil
	}
	return &ruleInDoc{r.Number, r.Line, r.Name, r.Action}
}

func (a *app) rulesTestCmd() *cobra.Command {
	var file, user, cgroup string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test NAME | ADDRESS[:PORT]", Short: "tell which rule decides about a destination, and why", Args: oneArg,
		Long: `Tells what would become of a connection: through the tunnel, directly, or nowhere;
which rule of the file decides that, and by which entry of it. Nothing is looked
up and nothing is sent. docs/rules.md tells how rules are written.`,
		Example: "  godwit rules test example.com\n  godwit rules test 192.0.2.1:443 --file rules.toml --user alice",
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := rules.ParseFlow(args[0])
			if err != nil {
				return usagef("%v", err)
			}
			if user != "" {
				if f.UID, err = rules.ParseUser(user); err != nil {
					return usagef("flag --user: %v", err)
				}
				f.KnowUID = true
			}
			if cgroup != "" {
				if f.Cgroup, err = rules.ParseCgroup(cgroup); err != nil {
					return usagef("flag --cgroup: %v", err)
				}
			}
			path := file
			if path == "" {
				dir, err := a.clientState("")
				if err != nil {
					return err
				}
				path = filepath.Join(dir, rulesFile)
			}
			s, err := rules.Load(path)
			var inside *rules.Error // such as a list that is not there
			switch {
			case file == "" && errors.Is(err, fs.ErrNotExist) && !errors.As(err, &inside):
				s = new(rules.Set) // everything goes through the tunnel
			case err != nil:
				return err
			}
			d := s.Match(f)
			if asJSON {
				return a.printJSON(ruleDoc{"godwit.rules.test/1", path, args[0], d.Action, inDoc(d.Rule), inDoc(d.Unsure), d.Why()})
			}
			style := map[rules.Action]string{rules.Tunnel: good, rules.Direct: alert, rules.Block: bad}[d.Action]
			fmt.Fprintf(a.stdout, "%s  %s\n", a.stdout.paint(style, d.Action.String()), args[0])
			a.stdout.field("why", "%s", d.Why())
			if r := d.Rule; r != nil {
				a.stdout.field("rule", "%s:%d", path, r.Line)
			} else {
				a.stdout.field("rules", "%d in %s", len(s.Rules), path)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "file", "", "the file of rules (default "+rulesFile+" in the client's state directory)")
	flags.StringVar(&user, "user", "", "whose connection it is, by number or name")
	flags.StringVar(&cgroup, "cgroup", "", "in which control group, by its path, as /user.slice")
	addJSON(cmd, &asJSON)
	return cmd
}
