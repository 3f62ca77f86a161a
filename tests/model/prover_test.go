package model

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// needham is the public-key protocol of Needham and Schroeder, as it was, and as Lowe repaired it ("Breaking and Fixing
// the Needham-Schroeder Public-Key Protocol using FDR", 1996). a and b are honest; the attacker has keys, too.
func needham(repaired bool) *theory {
	th := &theory{data: map[string]bool{"m1": true, "m2": true, "m3": true}}
	th.secret = func(t *term) bool { return t.fn == "sk" && (t.args[0].fn == "a" || t.args[0].fn == "b") }
	att := func(t *term) *term { return f("att", t) }
	x, y := &term{v: 0}, &term{v: 1}
	box := func(m, to *term) *term { return f("box", m, f("pk", f("sk", to))) }
	a, b := f("a"), f("b")
	for _, c := range []*term{a, b, f("c"), f("sk", f("c"))} {
		th.add("the attacker knows "+c.fn, att(c))
	}
	th.add("public keys", att(f("pk", f("sk", x))), att(x))
	th.add("encrypt", att(f("box", x, y)), att(x), att(y))
	th.add("decrypt", att(x), att(f("box", x, f("pk", y))), att(y))
	answer := func(na, nb, from *term) *term {
		if repaired {
			return f("m2", na, nb, from)
		}
		return f("m2", na, nb)
	}

	r := th.role("a")
	with := r.v("with")
	r.in(with)
	na := r.fresh("na")
	r.begin("speaks", a, with, na, r.session)
	r.out(box(f("m1", na, a), with))
	r.in(box(answer(na, r.v("nb"), with), a))
	r.out(box(f("m3", r.v("nb")), with))

	r = th.role("b")
	r.in(box(f("m1", r.v("na"), a), b))
	nb := r.fresh("nb")
	r.out(box(answer(r.v("na"), nb, b), a))
	r.in(box(f("m3", nb), b))
	r.end("heard", a, b, r.v("na"), r.session)
	th.add("the attacker has nb", f("end:leaked"), att(f("nb", x, y)))
	return th
}

var heard = query{event: "heard", since: "speaks", agree: []int{0, 1, 2}}

func TestLowe(t *testing.T) {
	for _, repaired := range []bool{false, true} {
		clauses, err := needham(repaired).saturate()
		if err != nil {
			t.Fatal(err)
		}
		if attack := heard.attack(scenario{}, clauses); (attack == nil) != repaired {
			t.Errorf("repaired %v: b's belief falls to %v", repaired, attack)
		}
		leaked := slices.ContainsFunc(clauses, func(c *clause) bool { return c.conclude.fn == "end:leaked" })
		if leaked == repaired {
			t.Errorf("repaired %v: the secret leaks: %v", repaired, leaked)
		}
		if !slices.ContainsFunc(clauses, func(c *clause) bool { return c.conclude.fn == "end:heard" }) {
			t.Errorf("repaired %v: b never hears anyone", repaired)
		}
	}
}

// A signed order can be heard twice; one that answers a challenge cannot.
func TestReplay(t *testing.T) {
	for _, challenge := range []bool{false, true} {
		th := &theory{data: map[string]bool{"order": true}, secret: func(t *term) bool { return t.fn == "sk" }}
		x, y := &term{v: 0}, &term{v: 1}
		th.add("the attacker knows something", f("att", f("anything")))
		th.add("reads", f("att", x), f("att", f("sign", x, y)))
		a := th.role("a")
		a.in(a.v("challenge"))
		order := f("order", a.fresh("what"), a.v("challenge"))
		if !challenge {
			order.args[1] = f("anything")
		}
		a.begin("ordered", order, a.session)
		a.out(f("sign", order, f("sk")))

		b := th.role("b")
		asked := f("anything")
		if challenge {
			asked = b.fresh("challenge")
			b.out(asked)
		}
		heard := f("order", b.v("what"), asked)
		b.in(f("sign", heard, f("sk")))
		args := make([]*term, argRun+1) // the run is where queries look for it
		for i := range args {
			args[i] = f("none")
		}
		args[0], args[argRun] = heard, b.session
		b.end("obeys", args...)

		clauses, err := th.saturate()
		if err != nil {
			t.Fatal(err)
		}
		q := query{event: "obeys", since: "ordered", agree: []int{0}}
		if c := q.attack(scenario{}, clauses); c != nil {
			t.Errorf("challenge %v: b obeys what a did not say: %v", challenge, c)
		}
		if q.once = true; (q.attack(scenario{}, clauses) == nil) != challenge {
			t.Errorf("challenge %v: the prover is wrong about replays", challenge)
		}
	}
}

// What the attacker is taken never to have is looked for.
func TestSecretsAreChecked(t *testing.T) {
	th := &theory{secret: func(t *term) bool { return t.fn == "key" }}
	th.add("a slip", f("att", f("key")))
	if _, err := th.saturate(); err == nil || !strings.Contains(err.Error(), "key") {
		t.Errorf("a secret that was sent: %v", err)
	}
}

func TestEndless(t *testing.T) {
	th := &theory{secret: func(*term) bool { return false }, most: 100}
	x := &term{v: 0}
	th.add("begin", f("att", f("zero")))
	th.add("the next but one", f("att", x), f("att", f("one", f("one", x))))
	th.add("grows", f("end:grows", x), f("att", f("one", x)))
	th.add("counts", f("att", f("one", x)), f("att", f("two", x)))
	th.add("counts back", f("att", f("two", f("two", x))), f("att", f("two", x)))
	th.add("two", f("att", f("two", f("zero"))))
	if _, err := th.saturate(); !errors.Is(err, errEndless) {
		t.Errorf("got %v", err)
	}
}
