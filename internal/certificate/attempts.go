package certificate

import (
	"encoding/json"
	"slices"
	"time"
)

// attempts is what a process that takes another one's place must know of a name for which the CA gave no certificate:
// else it would ask at once, and again and again, which is more than CAs allow.
type attempts struct {
	Name     string    `json:"name"`
	Failures int       `json:"failures"`
	Next     time.Time `json:"next"`
	Error    string    `json:"error"`
}

// Failed is a text about the attempts that failed, for Resume; empty if none did.
func (m *Manager) Failed() string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var all []attempts
	for _, s := range m.slots {
		if s.failures > 0 {
			all = append(all, attempts{s.names[0], s.failures, s.next, s.lastError})
		}
	}
	if all == nil {
		return ""
	}
	text, err := json.Marshal(all)
	if err != nil {
		return ""
	}
	return string(text)
}

// Resume has Run go on after the attempts that another process told about. Call it before Run. What it does not
// understand is nothing.
func (m *Manager) Resume(failed string) {
	var all []attempts
	if json.Unmarshal([]byte(failed), &all) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range all {
		i := slices.IndexFunc(m.slots, func(s *slot) bool { return s.names[0] == a.Name })
		if i >= 0 && m.cfg.Mode == ACME && a.Failures > 0 && time.Until(a.Next) <= 2*retryMost {
			s := m.slots[i]
			s.failures, s.next, s.lastError = a.Failures, a.Next, a.Error
		}
	}
}
