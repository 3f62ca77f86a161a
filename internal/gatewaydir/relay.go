package gatewaydir

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"slices"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/internal/control"
	"github.com/godwit-vpn/godwit/internal/device/secretfile"
	"github.com/godwit-vpn/godwit/internal/relay"
)

// RelaySettings are a relay of this network.
type RelaySettings struct {
	// Name is what the relay's secret follows from.
	Name string `toml:"name"`
	// Endpoint is where clients reach it, host[:port][/name]: name is the server name to ask it for, if it is not host.
	Endpoint string `toml:"endpoint"`
}

// ForwardSettings are those of a relay.
type ForwardSettings struct {
	// Homes are the gateways to forward to, host:port, best first; without any this is no relay.
	Homes []string `toml:"homes,omitempty"`
	// RateMbit bounds the megabits a second of one access key, each way; 0 is no bound.
	RateMbit int64 `toml:"rate_mbit,omitempty"`
	// PipesPerKey and Pipes bound how many connections are forwarded at once; 0 means 32 and 4096.
	PipesPerKey int `toml:"pipes_per_key,omitempty"`
	Pipes       int `toml:"pipes,omitempty"`
}

const (
	relayFile = "relay.key"
	relayKind = "godwit relay key v1"
	maxRelays = 8
)

var relayName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (s Settings) validateRelays(fail func(field, format string, args ...any)) {
	var names []string
	if len(s.Relays) > maxRelays {
		fail("relays", "there are %d, more than %d", len(s.Relays), maxRelays)
	}
	for i, r := range s.Relays {
		field := fmt.Sprintf("relays[%d]", i)
		if !relayName.MatchString(r.Name) {
			fail(field+".name", "%q is not 1 to 32 lower-case letters, digits and -", r.Name)
		}
		if slices.Contains(names, r.Name) {
			fail(field+".name", "there are two relays %q", r.Name)
		}
		names = append(names, r.Name)
		if e, err := accesskey.ParseEndpoint(r.Endpoint); err != nil || e.Transport != "https" {
			fail(field+".endpoint", "%q is not host[:port][/name]", r.Endpoint)
		}
	}
	f := s.Forward
	if len(f.Homes) > 0 {
		if err := relay.CheckHomes(f.Homes); err != nil {
			fail("forward.homes", "%v", err)
		}
	}
	for field, n := range map[string]int64{"forward.rate_mbit": f.RateMbit, "forward.pipes_per_key": int64(f.PipesPerKey),
		"forward.pipes": int64(f.Pipes)} {
		if n < 0 {
			fail(field, "%d is negative", n)
		}
	}
}

// relay makes the relay that the settings want; nil if they want none.
func (d *Dir) relay(log *slog.Logger) (*relay.Relay, error) {
	f := d.Settings.Forward
	if len(f.Homes) == 0 {
		return nil, nil
	}
	key, err := secretfile.Read(keyPath(d.Path, relayFile), relayKind, len(relay.Key{}))
	if err != nil {
		return nil, fmt.Errorf("field forward.homes: the relay's key, which 'godwit gateway init --relay' writes: %w", err)
	}
	return relay.New(relay.Config{Key: relay.Key(key), Homes: f.Homes, Rate: f.RateMbit * 1e6 / 8, PipesPerKey: f.PipesPerKey,
		Pipes: f.Pipes, Congestion: d.Settings.Congestion, Logger: log}), nil
}

// relayEndpoints are the relays as one access key holds them.
func (d *Dir) relayEndpoints(k control.AccessKey) ([]accesskey.Endpoint, error) {
	var all []accesskey.Endpoint
	for i, r := range d.Settings.Relays {
		e, err := accesskey.ParseEndpoint(r.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("%w: field relays[%d].endpoint: %w", ErrSettings, i, err)
		}
		key := relay.Key(d.Secrets.RelayKey(r.Name))
		e.Transport, e.Relay = "relay", &accesskey.Relay{Secret: accesskey.NewSecret(key.DoorSecret(k.ID)), Pin: key.Pin()}
		all = append(all, e)
	}
	return all, nil
}

// AddRelay writes a relay into the settings, or changes where it is, and returns the token that makes one of another
// machine.
func (d *Dir) AddRelay(name, endpoint string) (relay.Token, error) {
	s := d.Settings
	s.Relays = slices.Clone(s.Relays)
	at := slices.IndexFunc(s.Relays, func(r RelaySettings) bool { return r.Name == name })
	if at < 0 {
		at = len(s.Relays)
		s.Relays = append(s.Relays, RelaySettings{Name: name})
	}
	s.Relays[at].Endpoint = endpoint
	if err := s.Validate(); err != nil {
		return relay.Token{}, err
	}
	if !slices.Equal(s.Relays, d.Settings.Relays) {
		if err := s.write(d.settingsFile, false); err != nil {
			return relay.Token{}, err
		}
		d.Settings = s
	}
	return relay.Token{Key: relay.Key(d.Secrets.RelayKey(name)), Homes: s.Endpoints}, nil
}

// ErrNoRelay is matched when there is no relay of a name.
var ErrNoRelay = errors.New("there is no such relay")

// RemoveRelay takes a relay out of the settings.
func (d *Dir) RemoveRelay(name string) error {
	s := d.Settings
	s.Relays = slices.DeleteFunc(slices.Clone(s.Relays), func(r RelaySettings) bool { return r.Name == name })
	if len(s.Relays) == len(d.Settings.Relays) {
		return fmt.Errorf("%w: %q", ErrNoRelay, name)
	}
	if err := s.write(d.settingsFile, false); err != nil {
		return err
	}
	d.Settings = s
	return nil
}

// initRelay puts a token's keys in place, before any others are made. A directory that holds another gateway is left
// alone.
func initRelay(dir string, t relay.Token) error {
	scalar, err := t.Key.TLSKey().Bytes()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		file, kind string
		secret     []byte
	}{{tlsFile, tlsKind, scalar}, {relayFile, relayKind, t.Key[:]}} {
		path := keyPath(dir, f.file)
		err := secretfile.Create(path, f.kind, f.secret)
		if errors.Is(err, fs.ErrExist) {
			var there []byte
			if there, err = secretfile.Read(path, f.kind, len(f.secret)); err == nil && !slices.Equal(there, f.secret) {
				err = fmt.Errorf("%s is another gateway's: give the relay a directory of its own", path)
			}
		}
		if err != nil {
			return fmt.Errorf("putting the relay's keys in place: %w", err)
		}
	}
	return nil
}
