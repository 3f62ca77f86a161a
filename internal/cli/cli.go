// Package cli is the command line: it reads flags, files and the environment, calls the packages that do the work, and
// tells people what happened. Nobody but cmd imports it.
//
// What each verb needs is in a file of its own. Three things are in one place for all of them: what an error means to a
// script and to a person (errors.go), where files are (paths.go), and what a terminal can show (screen.go).
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/internal/coredump"
	"github.com/godwit-vpn/godwit/internal/handover"
)

// app is one run of the program.
type app struct {
	version string
	stdin   io.Reader
	stdout  *screen
	stderr  *screen
	env     func(string) string
	kernel  kernel // what init may change
	renews  bool   // a gateway that runs here may be replaced by another process without being asked

	logLevel  string
	logFormat string
}

// Main runs the program's command line and returns its exit code.
func Main(version string) int {
	if code, waits := handover.Waits(); waits {
		return code
	}
	ctx, stop := untilSignal(context.Background())
	defer stop()
	if err := coredump.Off(); err != nil {
		fmt.Fprintf(os.Stderr, "godwit: core dumps stay on: %v\n", err)
	}
	a := &app{
		version: version, stdin: os.Stdin, env: os.Getenv,
		stdout: newScreen(os.Stdout, os.Getenv), stderr: newScreen(os.Stderr, os.Getenv), kernel: thisKernel(),
		renews: true,
	}
	return a.run(ctx, os.Args[1:])
}

// run runs one command and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int { return a.execute(ctx, a.root(), args) }

// execute runs one command of root's. Whatever went wrong is told here and nowhere else.
func (a *app) execute(ctx context.Context, root *cobra.Command, args []string) (code int) {
	defer func() {
		if bug := recover(); bug != nil {
			fmt.Fprintf(a.stderr, "godwit: %v\n  This is a bug in Godwit, not a mistake of yours. Please report it with the "+
				"lines below; they hold no key and no address.\n\n%s", bug, debug.Stack())
			code = exitFailure
		}
	}()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	p := explain(err)
	p.print(a.stderr)
	return p.code
}

// signalled is the cause of a context that a signal has ended.
type signalled struct{ os.Signal }

func (s signalled) Error() string { return s.String() }

// untilSignal returns a context that the first interrupt or request to end cancels. The second one ends the program as
// if nobody listened.
func untilSignal(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	heard := make(chan os.Signal, 1) // signal.Notify does not wait
	signal.Notify(heard, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case s := <-heard:
			signal.Stop(heard)
			cancel(signalled{s})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(heard)
		cancel(nil)
	}
}

const about = `Godwit carries your traffic across networks that block VPNs, and keeps it going
when a connection is cut.

  On the server:  godwit gateway init && godwit gateway run
  On the laptop:  godwit up 'godwit://…'
  To see it:      godwit demo`

// usageTemplate is cobra's, shorter.
const usageTemplate = `Usage:
  {{if .HasAvailableSubCommands}}{{.CommandPath}} COMMAND{{else}}{{.UseLine}}{{end}}
{{- if .HasExample}}

Examples:
{{.Example}}{{end}}
{{- $cmd := .}}{{range .Groups}}

{{.Title}}{{$id := .ID}}{{range $cmd.Commands}}{{if and .IsAvailableCommand (eq .GroupID $id)}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}
{{- if .HasAvailableSubCommands}}

{{if .Groups}}Besides:{{else}}Commands:{{end}}{{range .Commands}}{{if and .IsAvailableCommand (not .GroupID)}}
  {{rpad .Name .NamePadding}}  {{.Short}}{{end}}{{end}}{{end}}
{{- if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableInheritedFlags}}

Flags of every command:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{- if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" tells more about each.{{end}}
`

const (
	groupClient  = "client"
	groupGateway = "gateway"
)

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "godwit", Short: "a VPN for networks that block VPNs", Long: about,
		SilenceErrors: true, SilenceUsage: true,
		Version: a.version,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			_, err := a.logger(slog.LevelInfo, a.stderr) // also of those that log nothing: a mistake is a mistake
			return err
		},
	}
	asGroup(root)
	root.SetVersionTemplate(a.versionLine())
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err} })
	root.AddGroup(&cobra.Group{ID: groupClient, Title: "To use a gateway:"},
		&cobra.Group{ID: groupGateway, Title: "To run a gateway for others:"})
	flags := root.PersistentFlags()
	flags.StringVar(&a.logLevel, "log-level", "", "how much to log: debug, info, warn or error (GODWIT_LOG)")
	flags.StringVar(&a.logFormat, "log-format", "text", "how to log: text or json")
	for _, cmd := range []*cobra.Command{a.upCmd(), a.downCmd(), a.statusCmd(), a.listCmd(), a.forgetCmd(),
		a.testCmd(), a.doctorCmd(), a.rulesCmd(), a.serviceCmd(), a.portalCmd(), a.rescueCmd()} {
		cmd.GroupID = groupClient
		root.AddCommand(cmd)
	}
	for _, cmd := range []*cobra.Command{a.gatewayCmd(), a.keyCmd(), a.deviceCmd(), a.configCmd()} {
		cmd.GroupID = groupGateway
		root.AddCommand(cmd)
	}
	root.AddCommand(a.demoCmd(), a.versionCmd())
	root.SetHelpCommand(helpCmd(root))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	everyCommand(root, func(cmd *cobra.Command) {
		if cmd.Name() == "completion" {
			asGroup(cmd)
		}
	})
	// Wrong arguments are a mistake of the command line wherever they are found out.
	everyCommand(root, func(cmd *cobra.Command) {
		check := cmd.Args
		if check == nil {
			return
		}
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			return nil
		}
	})
	return root
}

func everyCommand(cmd *cobra.Command, do func(*cobra.Command)) {
	do(cmd)
	for _, c := range cmd.Commands() {
		everyCommand(c, do)
	}
}

// asGroup makes cmd a verb that is nothing without another one: alone it prints its help.
func asGroup(cmd *cobra.Command) {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := fmt.Errorf("unknown command %q", args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w: did you mean %q?", err, near[0])
		}
		return err
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return cmd.Help() }
	cmd.SuggestionsMinimumDistance = 2
}

// helpCmd is cobra's, but for an unknown command, which is a mistake here as elsewhere.
func helpCmd(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND...]", Short: "tell about a command",
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("unknown command %q", strings.Join(args, " "))
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// The arguments that verbs take. Their errors become usage errors.

func noArgs(_ *cobra.Command, args []string) error { return atMost(0, args) }

func upToOneArg(_ *cobra.Command, args []string) error { return atMost(1, args) }

func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		_, what, _ := strings.Cut(cmd.Use, " ")
		return fmt.Errorf("%s is missing", what)
	}
	return atMost(1, args)
}

func atMost(n int, args []string) error {
	if len(args) > n {
		return fmt.Errorf("argument %q is one too many", args[n])
	}
	return nil
}

// group makes such a verb of others.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	asGroup(cmd)
	cmd.AddCommand(verbs...)
	return cmd
}

// logger makes the log of a command that logs by default from level on.
func (a *app) logger(level slog.Level, to *screen) (*slog.Logger, error) {
	name, given := "flag --log-level", a.logLevel
	if given == "" {
		name, given = "GODWIT_LOG", a.env("GODWIT_LOG")
	}
	if given != "" {
		if err := level.UnmarshalText([]byte(given)); err != nil {
			return nil, usagef("%s: %q is not debug, info, warn or error", name, given)
		}
	}
	switch a.logFormat {
	case "text":
		return slog.New(newTextHandler(to, level, a.env)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level})), nil
	}
	return nil, usagef("flag --log-format: %q is not text or json", a.logFormat)
}
