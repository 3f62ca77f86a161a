// Package gatewaydir is a gateway's state directory: what init makes and run needs, in one place.
//
//	gateway.toml      what the operator may change (Settings); it may lie elsewhere (Paths)
//	godwit.db         access keys and devices
//	keys/             0700; every file 0600
//	  network, door.key, control.key, directory.key   the network's secrets (package control)
//	  tls.key         the gateway's TLS key: access keys pin it, so certificates change and it does not
//	  tls-next.key    the one that will take its place, pinned ahead
//	  acme.key        the account at the CA, if one is asked
//	acme/, self-signed/   0700; certificates for tls.key (package certificate)
//	browsers/         signed profiles of browsers that clients are to look like, one a family; no secrets
//
// Losing keys/ means new access keys for everyone; the rest can be made again.
package gatewaydir

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/certificate"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/egress"
	"github.com/godwit-vpn/godwit/internal/relay"
	"github.com/godwit-vpn/godwit/internal/store"
)

const (
	// FirstKey is the name of the access key that Init makes.
	FirstKey = "first"
	// firstKeyDevices is how many devices it allows: a person's own.
	firstKeyDevices = 5

	settingsFile = "gateway.toml"
	databaseFile = "godwit.db"
)

// ErrNotInitialised is matched when the directory holds no gateway yet.
var ErrNotInitialised = errors.New("there is no gateway here yet: run 'godwit gateway init' first")

// Dir is an open state directory. Close it.
type Dir struct {
	Path     string
	Settings Settings
	Secrets  *control.Secrets
	Store    *store.SQLite
	Control  *control.Service
	TLS      TLSKeys

	// Listen opens what Service listens on; nil means net.Listen. Whoever hands sockets from process to process sets it.
	Listen func(network, address string) (net.Listener, error)

	// Forward makes what carries packets beside the sockets; nil, or if it makes nil, the sockets carry them. Whoever may change
	// the machine's network sets it.
	Forward func(*egress.Sockets) (Forwarder, error)

	settingsFile string
	log          *slog.Logger
}

// Paths are where a gateway's files are.
type Paths struct {
	// State is the state directory.
	State string
	// Settings is the settings file; empty means gateway.toml in State.
	Settings string
}

// SettingsFile is the path of the settings.
func (p Paths) SettingsFile() string {
	if p.Settings != "" {
		return p.Settings
	}
	return filepath.Join(p.State, settingsFile)
}

// Wishes are what Init is to put into the settings; it leaves alone what is not wished for.
type Wishes struct {
	Endpoints []string
	Ways      []string
	Zone      string       // that transport dns is to answer for
	Relay     *relay.Token // that is to be made of the gateway
}

// Init makes a gateway's state directory, or opens the one that is there: it changes nothing that exists, except the
// endpoints if any are given, and with them where certificates come from if that was not chosen. made says whether there
// was none.
func Init(ctx context.Context, path string, endpoints []string, log *slog.Logger) (d *Dir, made bool, err error) {
	return Paths{State: path}.Init(ctx, Wishes{Endpoints: endpoints}, log)
}

// Init is the function Init for these paths, and with more wishes.
func (p Paths) Init(ctx context.Context, w Wishes, log *slog.Logger) (d *Dir, made bool, err error) {
	endpoints, token := w.Endpoints, w.Relay
	path, settingsPath := p.State, p.SettingsFile()
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, false, fmt.Errorf("state directory: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(settingsPath), 0o755); err != nil {
		return nil, false, fmt.Errorf("directory of the settings: %w", err)
	}
	if _, err := os.Stat(settingsPath); errors.Is(err, fs.ErrNotExist) {
		made = true
	}
	if made || len(endpoints) > 0 || len(w.Ways) > 0 || w.Zone != "" || token != nil {
		s := DefaultSettings()
		if !made {
			if s, err = ReadSettings(settingsPath); err != nil {
				return nil, false, err
			}
		}
		same := !made && (len(endpoints) == 0 || slices.Equal(s.Endpoints, endpoints))
		switch {
		case len(endpoints) == 0 && made:
			s.Endpoints = []string{guessEndpoint()}
		case len(endpoints) == 0:
		case made:
			s.Endpoints, s.Listen = endpoints, listenFor(endpoints)
		default:
			s.Endpoints = endpoints
		}
		if s.Certificate.Mode == "" && s.publicWebServer() {
			s.Certificate.Mode = certificate.ACME
		}
		if len(w.Ways) > 0 {
			same = same && slices.Equal(s.Ways, w.Ways)
			s.Ways = w.Ways
		}
		if w.Zone != "" {
			same = same && s.DNS.Zone == w.Zone
			s.DNS.Zone = w.Zone
		}
		if token != nil {
			same = same && slices.Equal(s.Forward.Homes, token.Homes)
			s.Forward.Homes = token.Homes
		}
		if err := s.Validate(); err != nil {
			return nil, false, err
		}
		// The secrets first: settings that are there mean that the rest is, too.
		if _, err := control.InitSecrets(path, rand.Reader); err != nil {
			return nil, false, err
		}
		if token != nil {
			if err := initRelay(path, *token); err != nil {
				return nil, false, err
			}
		}
		if err := initTLSKeys(path); err != nil {
			return nil, false, err
		}
		if !same { // what the operator wrote stays as it is where nothing changes
			if err := s.write(settingsPath, made); err != nil {
				return nil, false, err
			}
		}
	}
	d, err = p.Open(ctx, log)
	if err != nil {
		return nil, false, err
	}
	keys, err := d.Control.Keys(ctx)
	if err == nil && len(keys) == 0 {
		_, err = d.Control.AddKey(ctx, control.AccessKey{Name: FirstKey, MaxDevices: firstKeyDevices})
		if errors.Is(err, control.ErrNameTaken) { // another init at the same moment
			err = nil
		}
	}
	if err != nil {
		d.Close()
		return nil, false, err
	}
	return d, made, nil
}

// Open opens the directory that Init made.
func Open(ctx context.Context, path string, log *slog.Logger) (*Dir, error) {
	return Paths{State: path}.Open(ctx, log)
}

// Open is the function Open for these paths.
func (p Paths) Open(ctx context.Context, log *slog.Logger) (*Dir, error) {
	path := p.State
	d := &Dir{Path: path, settingsFile: p.SettingsFile(), log: log}
	var err error
	if d.Settings, err = ReadSettings(d.settingsFile); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("state directory %q: %w", path, ErrNotInitialised)
		}
		return nil, err
	}
	if d.Secrets, err = control.LoadSecrets(path); err != nil {
		return nil, err
	}
	if d.TLS, err = loadTLSKeys(path); err != nil {
		return nil, err
	}
	if d.Store, err = store.OpenSQLite(ctx, filepath.Join(path, databaseFile)); err != nil {
		return nil, err
	}
	d.Control, err = control.New(ctx, control.Config{Store: d.Store, Secrets: d.Secrets, Log: log})
	if err != nil {
		d.Store.Close()
		return nil, err
	}
	return d, nil
}

// Close closes the database.
func (d *Dir) Close() error { return d.Store.Close() }

// AccessKey is the text form's content of one of control's keys, for this gateway.
func (d *Dir) AccessKey(k control.AccessKey) (accesskey.Key, error) {
	endpoints, err := d.Settings.accessEndpoints()
	if err != nil {
		return accesskey.Key{}, err
	}
	relays, err := d.relayEndpoints(k)
	if err != nil {
		return accesskey.Key{}, err
	}
	endpoints = append(endpoints, relays...)
	return accesskey.Key{
		ID:           k.ID,
		Secret:       accesskey.NewSecret(d.Secrets.DoorSecret(k.ID)),
		Pin:          d.TLS.Pin,
		NextPin:      d.TLS.NextPin,
		Endpoints:    endpoints,
		DirectoryKey: d.Secrets.DirectoryKey(),
		Label:        k.Name,
	}, nil
}
