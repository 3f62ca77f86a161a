package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/godwit-vpn/godwit/accesskey"
	"github.com/godwit-vpn/godwit/client"
	"github.com/godwit-vpn/godwit/internal/device"
	"github.com/godwit-vpn/godwit/internal/local"
)

// errNoDevice is returned where nobody would heed what was found.
var errNoDevice = errors.New("no device here uses this access key yet: after 'godwit up', ask once more")

// steer has the device of an access key heed what was found of this network, be it up or not.
func (ps profiles) steer(ctx context.Context, key accesskey.Key, found []client.Finding) (s client.Steering, err error) {
	name, err := ps.using(key.ID)
	if err != nil {
		return s, err
	}
	inst, err := local.Take(ps.path(name), clientProcess)
	if errors.As(err, new(*local.HeldError)) {
		return ps.steerUp(ctx, name, key, found)
	} else if err != nil {
		return s, err
	}
	defer inst.Close()
	c, err := client.New(client.Config{Key: key, StateDir: ps.stateOf(name, key.ID)})
	if err != nil {
		return s, err
	}
	return c.Steer(found)
}

// steerUp tells the process that a profile is up with.
func (ps profiles) steerUp(ctx context.Context, name string, key accesskey.Key, found []client.Finding) (s client.Steering, err error) {
	doc, err := ps.status(ctx, name)
	if err != nil {
		return s, err
	}
	if doc.KeyID != key.ID.String() {
		return s, &alreadyUpError{profile: name, pid: doc.PID, what: "with another access key"}
	}
	p, err := local.Find(ps.path(name), clientProcess)
	if err != nil {
		return s, err
	}
	text, err := json.Marshal(found)
	if err != nil {
		return s, err
	}
	if text, err = p.Steer(ctx, text); err == nil {
		err = json.Unmarshal(text, &s)
	}
	return s, err
}

// using finds the profile whose device uses an access key.
func (ps profiles) using(id accesskey.ID) (name string, err error) {
	names, err := ps.names()
	if err != nil {
		return "", err
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(ps.stateOf(name, id), device.KeyFile)); err == nil {
			return name, nil
		}
	}
	return "", errNoDevice
}

// steeringText says in one sentence what the dialer does next.
func steeringText(s client.Steering) string {
	var blocked, slow []client.Way
	for _, w := range s.Ways {
		switch {
		case w.Found == "blocked" || !w.Until.IsZero():
			blocked = append(blocked, w)
		case w.Found == "slow":
			slow = append(slow, w)
		}
	}
	text := "On this network the dialer now tries " + wayNames(s.First) + " first"
	switch {
	case len(s.Ways) == 1:
		return text + ": the access key has no other way."
	case len(blocked)+len(slow) == 0:
		return text + ", and has nothing to avoid."
	case len(blocked) == len(s.Ways):
		return text + ", though all ways are blocked: one may open again."
	}
	if len(blocked) > 0 {
		text += ", leaves " + wayNames(blocked...) + " alone while others work"
	}
	slow = slices.DeleteFunc(slow, func(w client.Way) bool { return w.Endpoint == s.First.Endpoint })
	if len(slow) > 0 {
		text += ", and takes " + wayNames(slow...) + " only after better ones"
	}
	return text + "."
}

// wayNames calls ways by their transports and their numbers in the access key.
func wayNames(ways ...client.Way) string {
	var names []string
	var numbers [][]string
	for _, w := range ways {
		i := slices.Index(names, w.Transport)
		if i < 0 {
			i = len(names)
			names, numbers = append(names, w.Transport), append(numbers, nil)
		}
		numbers[i] = append(numbers[i], fmt.Sprint(w.Endpoint))
	}
	for i, n := range numbers {
		names[i] += fmt.Sprintf(" (endpoint%s %s)", map[bool]string{true: "s"}[len(n) > 1], strings.Join(n, ", "))
	}
	return strings.Join(names, " and ")
}
