package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
	"github.com/godwit-vpn/godwit/internal/local"
)

// profiles are the access keys that this user has saved, each with what belongs to it:
//
//	profiles/NAME/      0700
//	  key               the access key's text
//	  KEYID/            the device's own key and certificate under that access key (package client)
//	  client.lock, client.sock      while it is up (package local)
//	  client.log, client.log.1      of the process in the background
//	  ended             why the last one in the background ended, if nobody asked it to
type profiles struct{ dir string }

const (
	defaultProfile = "default"
	// clientProcess is the client's name in its profile's lock and socket.
	clientProcess = "client"

	stateUsage = "the client's directory (GODWIT_STATE_DIR; default the user's own)"
)

// clientFlags are what every command that works on profiles takes.
type clientFlags struct{ state, profile string }

func (f *clientFlags) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.state, "state-dir", "", stateUsage)
	cmd.Flags().StringVar(&f.profile, "profile", "", "which saved access key (default the only one, or \"default\")")
	cmd.RegisterFlagCompletionFunc("profile", a.complete(f))
}

// complete offers the saved profiles to a shell.
func (a *app) complete(f *clientFlags) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ps, err := a.profiles(clientFlags{state: f.state})
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, _ := ps.names()
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) profiles(f clientFlags) (profiles, error) {
	if f.profile != "" {
		if err := checkProfile(f.profile); err != nil {
			return profiles{}, err
		}
	}
	dir, err := a.clientState(f.state)
	return profiles{filepath.Join(dir, "profiles")}, err
}

func (ps profiles) path(name string) string { return filepath.Join(ps.dir, name) }

// stateOf is where the device of an access key lives: one of its own for each, since two networks should not be able to tell
// that they have the same user.
func (ps profiles) stateOf(name string, id accesskey.ID) string {
	return filepath.Join(ps.path(name), id.String())
}

// make makes the directory of a profile.
func (ps profiles) make(name string) error {
	if err := secretfile.Dir(ps.path(name)); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

// names lists the profiles that have a key.
func (ps profiles) names() ([]string, error) {
	entries, err := os.ReadDir(ps.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() || checkProfile(e.Name()) != nil {
			continue
		}
		if _, err := os.Lstat(filepath.Join(ps.path(e.Name()), "key")); err == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// choose names the profile that is meant where none was given: "default", or the only one there is.
func (ps profiles) choose() (string, error) {
	names, err := ps.names()
	switch {
	case err != nil:
		return "", err
	case len(names) == 1:
		return names[0], nil
	case len(names) > 1 && !slices.Contains(names, defaultProfile):
		return "", usagef("which one? Give --profile: %s", strings.Join(names, ", "))
	}
	return defaultProfile, nil
}

// load reads a profile's key. Its error matches errNoProfile if there is none.
func (ps profiles) load(name string) (accesskey.Key, error) {
	path := filepath.Join(ps.path(name), "key")
	if err := secretfile.CheckDir(ps.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return accesskey.Key{}, fmt.Errorf("profile %q: %w", name, err)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return accesskey.Key{}, fmt.Errorf("profile %q: %w", name, errNoProfile)
	} else if err != nil {
		return accesskey.Key{}, fmt.Errorf("profile %q: %w", name, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, accesskey.MaxText+2))
	if err != nil {
		return accesskey.Key{}, fmt.Errorf("profile %q: %w", name, err)
	}
	key, err := accesskey.Parse(string(text))
	if err != nil {
		return accesskey.Key{}, fmt.Errorf("profile %q: file %q: %w", name, path, err)
	}
	return key, nil
}

// save writes a profile's key, whole or not at all.
func (ps profiles) save(name string, key accesskey.Key) error {
	if err := writeFile(filepath.Join(ps.path(name), "key"), []byte(key.Text()+"\n")); err != nil {
		return fmt.Errorf("saving the access key as profile %q: %w", name, err)
	}
	return nil
}

// writeFile replaces a file, which only its owner may read, in one step.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".new-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// forget removes a profile that is not up.
func (ps profiles) forget(name string) error {
	if checkProfile(name) != nil {
		return usagef("%q is not the name of a profile", name)
	}
	if _, err := os.Stat(ps.path(name)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("profile %q: %w", name, errNoProfile)
	}
	inst, err := local.Take(ps.path(name), clientProcess)
	var held *local.HeldError
	if errors.As(err, &held) {
		return &alreadyUpError{profile: name, pid: held.PID, what: "and cannot be forgotten now"}
	} else if err != nil {
		return err
	}
	err = os.RemoveAll(ps.path(name))
	return errors.Join(err, inst.Close(), os.RemoveAll(ps.path(name))) // Windows keeps what is open
}

// status asks the process that a profile is up with.
func (ps profiles) status(ctx context.Context, name string) (doc statusDoc, err error) {
	p, err := local.Find(ps.path(name), clientProcess)
	if err != nil {
		return doc, err
	}
	text, err := p.Status(ctx)
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	return doc, err
}

// findUp finds the process of a profile, or of the only one that is up where none was named.
func (ps profiles) findUp(name string) (string, *local.Peer, error) {
	if name != "" {
		if _, err := os.Stat(ps.path(name)); errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("profile %q: %w", name, errNoProfile)
		}
		p, err := local.Find(ps.path(name), clientProcess)
		if errors.Is(err, local.ErrNotRunning) {
			err = fmt.Errorf("profile %q is %w%s", name, errNotUp, ps.lastEnd(name))
		}
		return name, p, err
	}
	entries, err := os.ReadDir(ps.dir) // also of profiles whose key is not saved yet
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("state directory: %w", err)
	}
	var found *local.Peer
	var up []string
	var ended string
	for _, e := range entries {
		if checkProfile(e.Name()) != nil {
			continue
		}
		p, err := local.Find(ps.path(e.Name()), clientProcess)
		switch {
		case err == nil:
			found, up = p, append(up, e.Name())
		case !errors.Is(err, local.ErrNotRunning):
			return "", nil, err
		case len(entries) == 1:
			ended = ps.lastEnd(e.Name())
		}
	}
	switch len(up) {
	case 0:
		return "", nil, fmt.Errorf("%w%s", errNotUp, ended)
	case 1:
		return up[0], found, nil
	}
	return "", nil, usagef("several profiles are up, which one? Give --profile: %s", strings.Join(up, ", "))
}

// errNotUp reads better of a tunnel than "not running", which it is.
var errNotUp = notUp{}

type notUp struct{}

func (notUp) Error() string        { return "not up" }
func (notUp) Is(target error) bool { return target == local.ErrNotRunning }

const maxEnded = 1 << 10

// noteEnd keeps why a process in the background ended; a nil error clears it.
func (ps profiles) noteEnd(name string, why error) {
	path := filepath.Join(ps.path(name), "ended")
	if why == nil {
		os.Remove(path)
		return
	}
	text := time.Now().UTC().Format(time.RFC3339) + " " + why.Error()
	writeFile(path, []byte(text[:min(len(text), maxEnded)]))
}

// lastEnd says when and why the last process in the background ended, if nobody asked it to.
func (ps profiles) lastEnd(name string) string {
	b, err := os.ReadFile(filepath.Join(ps.path(name), "ended"))
	if err != nil {
		return ""
	}
	when, why, _ := strings.Cut(string(b[:min(len(b), maxEnded)]), " ")
	t, err := time.Parse(time.RFC3339, when)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; it ended at %s: %s", t.Local().Format("2006-01-02 15:04"), why)
}
