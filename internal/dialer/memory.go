package dialer

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

const (
	// keepNetworks and keepFor bound what is remembered.
	keepNetworks = 32
	keepFor      = 60 * 24 * time.Hour
	maxFile      = 1 << 20
)

// Memory keeps in a file what is known of the ways on each network. Networks and ways are named by a MAC under the
// device's own secret, so that the file alone does not tell where its user was. Not safe for concurrent use.
type Memory struct {
	path     string
	key      []byte
	networks map[string]network
}

type network struct {
	Seen time.Time        `json:"seen"`
	Ways map[string]Known `json:"ways"`
}

// OpenMemory reads the file at path, which need not exist; an empty path keeps it in memory only. Of a file that is
// damaged nothing is known, and the error says so: the Memory is good either way.
func OpenMemory(path string, key []byte) (*Memory, error) {
	m := &Memory{path: path, key: key, networks: make(map[string]network)}
	if path == "" {
		return m, nil
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case err != nil:
		return m, err
	case info.Size() > maxFile:
		return m, fmt.Errorf("%s is %d bytes long: it begins anew", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	var networks map[string]network
	if err := json.Unmarshal(b, &networks); err != nil {
		return m, fmt.Errorf("%s is damaged and begins anew: %w", path, err)
	}
	if networks != nil {
		m.networks = networks
	}
	return m, nil
}

// Recall has w know what is known of its ways on a network; nothing, where it was never or the name is empty.
func (m *Memory) Recall(name string, w *Ways, now time.Time) {
	clear(w.known)
	w.explored, w.tries = time.Time{}, 0
	if name == "" {
		return
	}
	n := m.networks[m.mac("network", name)]
	for i, way := range w.list {
		k := n.Ways[m.mac("way", way.Transport, way.Addr)]
		// A clock that was wrong, or a file that somebody has changed, must not keep a way closed for good.
		if latest(k).After(now) || k.Until.Sub(now) > 2*residuals[len(residuals)-1] || k.Failures < 0 || k.Failures > mostFailures {
			k = Known{}
		}
		w.known[i] = k
	}
}

// latest is when something was last learned of a way.
func latest(k Known) (t time.Time) {
	for _, at := range []time.Time{k.Failed, k.Worked, k.Lived, k.Blocked, k.Slow, k.Outdone} {
		if at.After(t) {
			t = at
		}
	}
	return t
}

// Keep remembers what w knows of its ways on a network.
func (m *Memory) Keep(name string, w *Ways, now time.Time) error {
	w.changed = false
	if name == "" {
		return nil
	}
	n := network{Seen: now.Round(24 * time.Hour), Ways: make(map[string]Known)}
	for i, way := range w.list {
		if w.known[i] != (Known{}) {
			n.Ways[m.mac("way", way.Transport, way.Addr)] = w.known[i]
		}
	}
	m.networks[m.mac("network", name)] = n
	m.forget(now)
	if m.path == "" {
		return nil
	}
	b, err := json.Marshal(m.networks)
	if err != nil {
		return err
	}
	tmp := m.path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, m.path)
}

// forget drops networks that were not seen for long, and the oldest when there are too many.
func (m *Memory) forget(now time.Time) {
	for name, n := range m.networks {
		if now.Sub(n.Seen) > keepFor {
			delete(m.networks, name)
		}
	}
	for len(m.networks) > keepNetworks {
		oldest := ""
		for name, n := range m.networks {
			if oldest == "" || n.Seen.Before(m.networks[oldest].Seen) {
				oldest = name
			}
		}
		delete(m.networks, oldest)
	}
}

func (m *Memory) mac(parts ...string) string {
	h := hmac.New(sha256.New, m.key)
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
