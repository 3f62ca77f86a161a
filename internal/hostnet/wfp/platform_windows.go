package wfp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/tailscale/wf"
	"golang.org/x/sys/windows"
)

var (
	provider = wf.ProviderID{Data1: 0x676f6477, Data2: 0x6974, Data3: 0x4e54, Data4: [8]byte{0x87, 0x75, 0x70, 0x72, 0x6f, 0x76, 0x30, 0x31}}
	sublayer = wf.SublayerID{Data1: 0x676f6477, Data2: 0x6974, Data3: 0x4e54, Data4: [8]byte{0x87, 0x75, 0x6c, 0x61, 0x79, 0x65, 0x30, 0x31}}
)

// What the platform says, of fwpmtypes.h.
const (
	fwpExists      = windows.Errno(0x80320009)
	fwpNoFilter    = windows.Errno(0x80320003)
	fwpNoProvider  = windows.Errno(0x80320005)
	fwpNoSublayer  = windows.Errno(0x80320007)
	heaviestWeight = 0xffff // of sublayers
)

func open() (*wf.Session, error) {
	// Not dynamic: what is added stays when this process dies, until the machine starts again.
	return wf.New(&wf.Options{Name: "Godwit", Description: "Nothing leaves beside the tunnel"})
}

// Set makes the platform's rules of ours these; program is the file that they name. kept are the ids of those that may be there, which
// it is given and changes: save is called for them to be on the disk before any rule that is new.
func Set(rules []Rule, program string, kept *[]string, save func() error) error {
	app, err := wf.AppID(program)
	if err != nil {
		return fmt.Errorf("%s: %w", program, err)
	}
	s, err := open()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.AddProvider(&wf.Provider{ID: provider, Name: "Godwit"}); err != nil && !errors.Is(err, fwpExists) {
		return err
	}
	layer := &wf.Sublayer{ID: sublayer, Name: "Godwit", Provider: provider, Weight: heaviestWeight}
	if err := s.AddSublayer(layer); err != nil && !errors.Is(err, fwpExists) {
		return err
	}
	old := *kept
	var ids []string
	for _, r := range rules {
		id := r.id()
		ids = append(ids, hex.EncodeToString(id[:]))
	}
	*kept = append(slices.Clone(old), slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(old, id) })...)
	if err := save(); err != nil {
		return err
	}
	for _, r := range rules {
		if err := s.AddRule(ruleOf(r, app)); err != nil && !errors.Is(err, fwpExists) {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
	}
	gone := slices.DeleteFunc(slices.Clone(old), func(id string) bool { return slices.Contains(ids, id) })
	if err := deleteRules(s, gone); err != nil {
		return err
	}
	*kept = ids
	return save()
}

// There reports whether the kill switch is there.
func There() (bool, error) {
	s, err := open()
	if err != nil {
		return false, err
	}
	defer s.Close()
	return loaded(s)
}

func loaded(s *wf.Session) (bool, error) {
	layers, err := s.Sublayers()
	return slices.ContainsFunc(layers, func(l *wf.Sublayer) bool { return l.ID == sublayer }), err
}

// Remove removes the kill switch, kept being the ids of its rules, as far as they are known. It goes on after an error, and reports
// whether there was anything to remove.
func Remove(kept []string) (removed bool, err error) {
	s, err := open()
	if err != nil {
		return false, fmt.Errorf("kill switch: %w", err)
	}
	defer s.Close()
	there, err := loaded(s)
	if err == nil && !there {
		return false, nil
	}
	errs := []error{err, deleteRules(s, kept)}
	// Those that the disk has forgotten.
	if rules, err := s.Rules(); err == nil {
		for _, r := range rules {
			if r.Sublayer == sublayer {
				errs = append(errs, s.DeleteRule(r.ID))
			}
		}
	}
	if err := s.DeleteSublayer(sublayer); err != nil && !errors.Is(err, fwpNoSublayer) {
		errs = append(errs, err)
	}
	if err := s.DeleteProvider(provider); err != nil && !errors.Is(err, fwpNoProvider) {
		errs = append(errs, err)
	}
	return true, errors.Join(errs...)
}

func deleteRules(s *wf.Session, ids []string) error {
	for _, text := range ids {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 16 {
			continue
		}
		if err := s.DeleteRule(ruleID([16]byte(b))); err != nil && !errors.Is(err, fwpNoFilter) {
			return err
		}
	}
	return nil
}

func ruleID(b [16]byte) wf.RuleID { return *(*wf.RuleID)(unsafe.Pointer(&b)) }

// ruleOf is a rule as the platform is told it.
func ruleOf(r Rule, app string) *wf.Rule {
	layers := map[[2]bool]wf.LayerID{
		{false, false}: wf.LayerALEAuthConnectV4, {false, true}: wf.LayerALEAuthConnectV6,
		{true, false}: wf.LayerALEAuthRecvAcceptV4, {true, true}: wf.LayerALEAuthRecvAcceptV6,
	}
	out := &wf.Rule{ID: ruleID(r.id()), Name: "Godwit: " + r.Name, Layer: layers[[2]bool{r.In, r.Six}], Sublayer: sublayer,
		Provider: provider, Weight: r.Weight, Action: wf.ActionBlock}
	if r.Permit {
		out.Action = wf.ActionPermit
	}
	when := func(field wf.FieldID, op wf.MatchType, value any) {
		out.Conditions = append(out.Conditions, &wf.Match{Field: field, Op: op, Value: value})
	}
	if r.Loopback {
		when(wf.FieldFlags, wf.MatchTypeFlagsAllSet, wf.ConditionFlagIsLoopback)
	}
	if r.LUID != 0 {
		when(wf.FieldIPLocalInterface, wf.MatchTypeEqual, r.LUID)
	}
	if r.Program != "" {
		when(wf.FieldALEAppID, wf.MatchTypeEqual, app)
	}
	if r.Proto != 0 {
		when(wf.FieldIPProtocol, wf.MatchTypeEqual, r.Proto)
	}
	if r.LocalPort != 0 {
		when(wf.FieldIPLocalPort, wf.MatchTypeEqual, r.LocalPort)
	}
	if r.RemotePort != 0 {
		when(wf.FieldIPRemotePort, wf.MatchTypeEqual, r.RemotePort)
	}
	if r.Remote.IsValid() {
		when(wf.FieldIPRemoteAddress, wf.MatchTypeEqual, r.Remote)
	}
	return out
}
