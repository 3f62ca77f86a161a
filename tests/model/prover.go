// Package model proves what the door and the proofs of a link are meant to give, against whoever holds the network, and
// for any number of connections at once. It has the model of the protocol, and the small prover that checks it; the
// tests compare its verdicts with those that docs/model.md states.
//
// The prover does what ProVerif does (Blanchet, "An Efficient Cryptographic Protocol Verifier Based on Prolog Rules",
// CSFW 2001, and "Automatic verification of correspondences for security protocols", JCS 2009): a protocol and the
// attacker become Horn clauses over what the attacker can know, and these are saturated by resolution.
//
//	att(senc(x, k)), att(k) → att(x)                       whoever has a box and its key has what is in it
//	att(pattern of what comes in), … → att(what goes out)  a role's step
//	…, begin:e(…)                                          it has happened, if the role took this step
//	… → end:e(…)                                           the role now believes something
//
// What it proves holds in this abstraction of the protocol, in which there are more runs than in reality: a proof is a
// proof, while an attack may be none. It is ours because no prover of protocols is packaged for the systems that we test
// on; its own tests hold it to textbook protocols.
package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// term is a function applied to terms, or a variable, whose fn is empty.
type term struct {
	fn   string
	args []*term
	v    int
}

// f applies a function. Names and constants are functions, too.
func f(fn string, args ...*term) *term { return &term{fn: fn, args: args} }

func (t *term) String() string {
	if t.fn == "" {
		return fmt.Sprintf("x%d", t.v)
	}
	if len(t.args) == 0 {
		return t.fn
	}
	var args []string
	for _, a := range t.args {
		args = append(args, a.String())
	}
	return t.fn + "(" + strings.Join(args, ", ") + ")"
}

func (t *term) equal(u *term) bool {
	return t == u || t.fn == u.fn && t.v == u.v && slices.EqualFunc(t.args, u.args, (*term).equal)
}

// has reports whether the variable is in t.
func (t *term) has(v int) bool {
	return t.fn == "" && t.v == v || slices.ContainsFunc(t.args, func(a *term) bool { return a.has(v) })
}

// vars appends the variables of t that are not in list.
func (t *term) vars(list []*term) []*term {
	if t.fn == "" {
		if !slices.ContainsFunc(list, t.equal) {
			list = append(list, t)
		}
		return list
	}
	for _, a := range t.args {
		list = a.vars(list)
	}
	return list
}

// size counts the functions and variables in t.
func size(t *term) int {
	n := 1
	for _, a := range t.args {
		n += size(a)
	}
	return n
}

// subst maps variables to terms.
type subst []*term

func (s subst) walk(t *term) *term {
	for t.fn == "" {
		u := s[t.v]
		if u == nil {
			break
		}
		t = u
	}
	return t
}

func (s subst) apply(t *term) *term {
	if t = s.walk(t); len(t.args) == 0 {
		return t
	}
	args := make([]*term, len(t.args))
	for i, a := range t.args {
		args[i] = s.apply(a)
	}
	return &term{fn: t.fn, args: args}
}

func (s subst) occurs(v int, t *term) bool {
	t = s.walk(t)
	return t.fn == "" && t.v == v || slices.ContainsFunc(t.args, func(a *term) bool { return s.occurs(v, a) })
}

// unify makes a and b equal.
func (s subst) unify(a, b *term) bool {
	switch a, b = s.walk(a), s.walk(b); {
	case a == b || a.fn == "" && b.fn == "" && a.v == b.v:
		return true
	case a.fn == "":
		if s.occurs(a.v, b) {
			return false
		}
		s[a.v] = b
		return true
	case b.fn == "":
		return s.unify(b, a)
	case a.fn != b.fn || len(a.args) != len(b.args):
		return false
	}
	for i := range a.args {
		if !s.unify(a.args[i], b.args[i]) {
			return false
		}
	}
	return true
}

// match makes a equal to b by its own variables only, and appends those it bound.
func (s subst) match(a, b *term, bound []int) ([]int, bool) {
	if a.fn == "" {
		if t := s[a.v]; t != nil {
			return bound, t.equal(b)
		}
		s[a.v] = b
		return append(bound, a.v), true
	}
	if a.fn != b.fn || len(a.args) != len(b.args) {
		return bound, false
	}
	ok := true
	for i := range a.args {
		if bound, ok = s.match(a.args[i], b.args[i], bound); !ok {
			return bound, false
		}
	}
	return bound, true
}

// clause says that what it concludes holds if all that it supposes does.
type clause struct {
	suppose  []*term
	conclude *term
	vars     int // it has the variables below
	selected int // of suppose; -1 if there is nothing left to explain

	step    string // what it is, or
	parents []*clause
	gone    bool // another one says more
}

func (c *clause) String() string {
	var all []string
	for _, h := range c.suppose {
		all = append(all, h.String())
	}
	return strings.Join(all, ", ") + " → " + c.conclude.String()
}

// story is the steps that led to c, each once.
func (c *clause) story() []string {
	var all []string
	seen := map[*clause]bool{}
	var tell func(c *clause)
	tell = func(c *clause) {
		if seen[c] {
			return
		}
		seen[c] = true
		for _, p := range c.parents {
			tell(p)
		}
		if c.step != "" && !slices.Contains(all, c.step) {
			all = append(all, c.step)
		}
	}
	tell(c)
	return all
}

func isAtt(t *term) bool { return strings.HasPrefix(t.fn, "att") }

// theory is clauses, and which functions only put things together: those the attacker takes apart again.
type theory struct {
	clauses []*clause
	data    map[string]bool
	// secret says what the attacker is taken never to have, whatever its variables stand for. saturate checks that.
	secret func(*term) bool
	most   int // clauses that are tried before the prover gives up; 0 is maxClauses
}

func (th *theory) add(step string, conclude *term, suppose ...*term) {
	th.clauses = append(th.clauses, &clause{suppose: suppose, conclude: conclude, step: step})
}

// simplify returns the clauses that c amounts to, none if it says nothing.
func (th *theory) simplify(c *clause) []*clause {
	if isAtt(c.conclude) && th.data[c.conclude.args[0].fn] {
		var all []*clause
		for _, a := range c.conclude.args[0].args {
			d := *c
			d.conclude = f(c.conclude.fn, a)
			all = append(all, th.simplify(&d)...)
		}
		return all
	}
	var suppose []*term
	var put func(h *term)
	put = func(h *term) {
		switch {
		case isAtt(h) && th.data[h.args[0].fn]:
			for _, a := range h.args[0].args {
				put(f(h.fn, a))
			}
		case !slices.ContainsFunc(suppose, h.equal):
			suppose = append(suppose, h)
		}
	}
	for _, h := range c.suppose {
		put(h)
	}
	if slices.ContainsFunc(suppose, c.conclude.equal) || slices.ContainsFunc(suppose, th.isSecret) {
		return nil
	}
	// The attacker always knows something: a variable that is nowhere else may be that.
	for i := 0; i < len(suppose); i++ {
		h := suppose[i]
		if !isAtt(h) || h.args[0].fn != "" || c.conclude.has(h.args[0].v) {
			continue
		}
		elsewhere := false
		for j, other := range suppose {
			elsewhere = elsewhere || i != j && other.has(h.args[0].v)
		}
		if !elsewhere {
			suppose = slices.Delete(suppose, i, i+1)
			i--
		}
	}
	// What leaves says least to choose from comes first: says would try every order of the variables.
	slices.SortStableFunc(suppose, func(g, h *term) int {
		return cmp.Compare(size(h), size(g))
	})
	d := &clause{step: c.step, parents: c.parents, selected: -1}
	all := c.conclude.vars(nil)
	for _, h := range suppose {
		all = h.vars(all)
	}
	most := 0
	for _, v := range all {
		most = max(most, v.v)
	}
	number := make(subst, most+1)
	for i, v := range all {
		number[v.v] = &term{v: i}
	}
	d.vars, d.conclude = len(all), number.rename(c.conclude)
	for _, h := range suppose {
		d.suppose = append(d.suppose, number.rename(h))
	}
	d.selected = slices.IndexFunc(d.suppose, func(h *term) bool { return isAtt(h) && h.args[0].fn != "" })
	return []*clause{d}
}

func (th *theory) isSecret(h *term) bool { return h.fn == "att" && th.secret(h.args[0]) }

// rename applies s once: what it maps to is not looked up again.
func (s subst) rename(t *term) *term {
	if t.fn == "" {
		return s[t.v]
	}
	if len(t.args) == 0 {
		return t
	}
	args := make([]*term, len(t.args))
	for i, a := range t.args {
		args[i] = s.rename(a)
	}
	return &term{fn: t.fn, args: args}
}

// says reports whether c says all that d does.
func (c *clause) says(d *clause) bool {
	if len(c.suppose) > len(d.suppose) || c.conclude.fn != d.conclude.fn {
		return false
	}
	s := make(subst, c.vars)
	if _, ok := s.match(c.conclude, d.conclude, nil); !ok {
		return false
	}
	used := make([]bool, len(d.suppose))
	var cover func(i int) bool
	cover = func(i int) bool {
		if i == len(c.suppose) {
			return true
		}
		for k, h := range d.suppose {
			if used[k] || h.fn != c.suppose[i].fn {
				continue
			}
			bound, ok := s.match(c.suppose[i], h, nil)
			if used[k] = ok; ok && cover(i+1) {
				return true
			}
			used[k] = false
			for _, v := range bound {
				s[v] = nil
			}
		}
		return false
	}
	return cover(0)
}

// resolve puts c's conclusion where d has a supposition selected; nil if they do not fit.
func resolve(c, d *clause) *clause {
	h := d.suppose[d.selected]
	if c.conclude.fn != h.fn || c.conclude.args[0].fn != "" && c.conclude.args[0].fn != h.args[0].fn {
		return nil
	}
	shift := func(t *term) *term { return shifted(t, d.vars) }
	s := make(subst, d.vars+c.vars)
	if !s.unify(shift(c.conclude), h) {
		return nil
	}
	r := &clause{parents: []*clause{c, d}, conclude: s.apply(d.conclude)}
	for i, x := range d.suppose {
		if i != d.selected {
			r.suppose = append(r.suppose, s.apply(x))
			continue
		}
		for _, y := range c.suppose {
			r.suppose = append(r.suppose, s.apply(shift(y)))
		}
	}
	return r
}

func shifted(t *term, by int) *term {
	if t.fn == "" {
		return &term{v: t.v + by}
	}
	if len(t.args) == 0 {
		return t
	}
	args := make([]*term, len(t.args))
	for i, a := range t.args {
		args[i] = shifted(a, by)
	}
	return &term{fn: t.fn, args: args}
}

// maxClauses is when the prover gives up. The models here need less than a third of them.
const maxClauses = 3_000

var errEndless = errors.New("the prover finds no end")

// saturate returns the clauses by which everything can be derived that can be derived at all, the last step of it by a
// clause whose suppositions are only begun events and things that the attacker may choose.
func (th *theory) saturate() ([]*clause, error) {
	var done, queue []*clause
	tried := 0
	put := func(c *clause) {
		for _, c := range th.simplify(c) {
			said := func(d *clause) bool { return !d.gone && d.says(c) }
			if slices.ContainsFunc(done, said) || slices.ContainsFunc(queue, said) {
				continue
			}
			for _, list := range [][]*clause{done, queue} {
				for _, d := range list {
					d.gone = d.gone || c.says(d)
				}
			}
			queue = append(queue, c)
		}
	}
	for _, c := range th.clauses {
		put(c)
	}
	for len(queue) > 0 {
		c := queue[0]
		if queue = queue[1:]; c.gone {
			continue
		}
		if tried++; tried > cmp.Or(th.most, maxClauses) {
			return nil, errEndless
		}
		done = slices.DeleteFunc(append(done, c), func(d *clause) bool { return d.gone })
		for _, d := range slices.Clone(done) {
			var r *clause
			if c.selected < 0 && d.selected >= 0 {
				r = resolve(c, d)
			} else if c.selected >= 0 && d.selected < 0 {
				r = resolve(d, c)
			}
			if r != nil {
				put(r)
			}
		}
	}
	done = slices.DeleteFunc(done, func(c *clause) bool { return c.gone || c.selected >= 0 })
	for _, c := range done {
		if th.isSecret(c.conclude) || c.conclude.fn == "att" && c.conclude.args[0].fn == "" {
			return nil, fmt.Errorf("the attacker has what it was taken never to have: %v", c)
		}
	}
	return done, nil
}

// role is one party's run, or several: its clauses are for any session of it.
type role struct {
	th      *theory
	name    string
	session *term
	suppose []*term
	named   map[string]*term
}

func (th *theory) role(name string) *role {
	r := &role{th: th, name: name, named: map[string]*term{}}
	r.session = r.v("session")
	return r
}

// fork is the same run, for another way to go on.
func (r *role) fork(name string) *role {
	s := *r
	s.name, s.suppose, s.named = name, slices.Clone(r.suppose), map[string]*term{}
	for k, v := range r.named {
		s.named[k] = v
	}
	return &s
}

// v is the run's variable of that name.
func (r *role) v(name string) *term {
	if r.named[name] == nil {
		r.named[name] = &term{v: len(r.named)}
	}
	return r.named[name]
}

// fresh is a new secret name. It depends on all that came before it: another run, another name.
func (r *role) fresh(name string, about ...*term) *term {
	args := append(slices.Clone(about), r.session)
	seen := []*term{r.session}
	for _, h := range r.suppose {
		if isAtt(h) {
			seen = h.vars(seen)
		}
	}
	return f(name, append(args, seen[1:]...)...)
}

// in waits for a message of that form, from whoever sends it.
func (r *role) in(pattern *term) { r.suppose = append(r.suppose, f("att", pattern)) }

// out sends a message to whoever listens.
func (r *role) out(t *term) {
	r.th.add(r.name+" sends "+kind(t), f("att", t), slices.Clone(r.suppose)...)
}

func kind(t *term) string {
	if t.fn == "senc" || t.fn == "sign" {
		return t.fn + "(" + t.args[0].fn + ")"
	}
	return t.fn
}

// begin notes that the run is about to do something: whatever it says from now on supposes that it did.
func (r *role) begin(event string, args ...*term) {
	r.suppose = append(r.suppose, f("begin:"+event, args...))
}

// end notes that the run believes something.
func (r *role) end(event string, args ...*term) {
	r.th.add(r.name+" believes "+event, f("end:"+event, args...), slices.Clone(r.suppose)...)
}
