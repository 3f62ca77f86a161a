package model

import "slices"

// scenario is what the attacker has besides the network, and what the protocol has been robbed of. The zero scenario is
// the protocol as it is, and a stranger who is everywhere on the way.
type scenario struct {
	name  string
	falls string // the queries that do not hold, as they are expected

	// What the attacker has. It always has the network, and makes connections and device keys of its own.
	user          bool // an access key of its own
	keyIDs        bool // the ids of everyone's access keys
	doorKey       bool // the network's door key: every door secret
	deviceKeys    bool // every device's key
	certificates  bool // every device's certificate
	sessions      bool // the ids of everyone's sessions
	serverKey     bool // the TLS keys of all gateways, while they are in use
	otherGateway  bool // another gateway of the network, with the door key that it holds
	controlKey    bool // the key that signs certificates
	classicBroken bool // what X25519 alone protects
	later         bool // all keys there are, and X25519 broken, but after the connections have ended

	// What the protocol lacks.
	noPin              bool // the client takes any key that a CA vouches for
	macWithoutExporter bool
	proofWithoutServer bool // the server's key is not signed
	proofWithoutFields bool // transport, version, flags, features, next are not signed
	exporterUnbound    bool // the exporter follows from the shared secret, not from the transcript
	helloUnsigned      bool // the server does not sign the ClientHello
	early              bool // the knock comes with the first flight, as in 0-RTT: nothing in it is the server's
	staticKeys         bool // the client's secret is sealed to the server's key, as before TLS 1.3
	clientTakesClassic bool // X25519 alone will do
	gatewayTakesOld    bool // the gateway answers with X25519 though the client offers better, and has a door there
	inTheOpen          bool // the knock is not encrypted
	oneKey             bool // both directions have the same key, and the gateway's answer is the knock's echo
	full               bool // no access key takes more devices
	anyAccessKey       bool // a certificate is good with any access key, not only its own
}

// What the other parties are called, and the names of what they hold. x says which one: there is any number.
func honest(x *term) *term          { return f("honest", x) }
func keyID(user *term) *term        { return f("keyid", user) }
func device(user, n *term) *term    { return f("devicekey", user, n) }
func serverKey(gw *term) *term      { return f("serverkey", gw) }
func pk(secret *term) *term         { return f("pk", secret) }
func senc(m, key *term) *term       { return f("senc", m, key) }
func sign(m, key *term) *term       { return f("sign", m, key) }
func certificate(id, d *term) *term { return sign(f("devcert", id, d), f("controlkey")) }
func doorSecret(id *term) *term     { return f("kdf", f("doorkey"), id) }

// link is the theory of a scenario. Roles and messages are those of PROTOCOL.md, section 3, in the form that
// docs/model.md describes.
func link(sc scenario) *theory {
	th := &theory{data: map[string]bool{}}
	for _, fn := range []string{"clienthello", "serverhello", "certverify", "transcript", "knock", "hello", "flags", "proof",
		"devcert", "marker", "welcome", "frame"} {
		th.data[fn] = true
	}
	// What the attacker cannot have spares the prover all that would follow from it. It checks that.
	th.secret = func(t *term) bool {
		switch t.fn {
		case "secret", "classicsecret":
			return true
		case "serverkey":
			return !sc.serverKey && (!sc.otherGateway || t.args[0].equal(f("home")))
		case "doorkey":
			return !sc.doorKey && !sc.otherGateway
		case "devicekey":
			return !sc.deviceKeys
		case "controlkey":
			return !sc.controlKey
		}
		return false
	}
	sc.attacker(th)
	sc.client(th, false)
	if !sc.full {
		sc.client(th, true)
	}
	sc.gateway(th)
	sc.goals(th)
	return th
}

// attacker is what anyone can compute, and what this one holds.
func (sc scenario) attacker(th *theory) {
	x, y, z := &term{v: 0}, &term{v: 1}, &term{v: 2}
	att := func(t *term) *term { return f("att", t) }
	can := func(what string, result *term, from ...*term) {
		var suppose, later []*term
		for _, t := range from {
			suppose, later = append(suppose, att(t)), append(later, f("att-later", t))
		}
		th.add("the attacker "+what, att(result), suppose...)
		if sc.later {
			th.add("the attacker "+what, f("att-later", result), later...)
		}
	}
	for _, c := range []string{"home", "other", "enrol", "certified", "both", "classic", "hybrid",
		"door", "proof", "marker", "none", "its own"} {
		can("knows "+c, f(c))
	}
	can("computes", pk(x), x)
	can("computes", f("kdf", x, y), x, y)
	can("computes", f("hmac", x, y), x, y)
	can("computes", f("export", x, y, z), x, y, z)
	can("computes", f("clientkey", x, y), x, y)
	can("computes", f("serverwritekey", x, y), x, y)
	can("signs", sign(x, y), x, y)
	can("reads what is signed", x, sign(x, y))
	can("encrypts", senc(x, y), x, y)
	can("decrypts", x, senc(x, y), y)
	can("encapsulates", f("kem", x, y), x, y)
	can("decapsulates", x, f("kem", x, pk(y)), y)
	can("encapsulates", f("kem-classic", x, y), x, y)
	can("decapsulates", x, f("kem-classic", x, pk(y)), y)
	if sc.classicBroken {
		can("breaks X25519", x, f("kem-classic", x, y))
	}
	holds := func(yes bool, what string, t *term) {
		if yes {
			th.add("the attacker has "+what, att(t))
		}
	}
	mallory := f("mallory")
	holds(sc.user, "an access key", keyID(mallory))
	holds(sc.user, "an access key", doorSecret(keyID(mallory)))
	holds(sc.keyIDs, "the ids of access keys", keyID(honest(x)))
	holds(sc.doorKey || sc.otherGateway, "the door key", f("doorkey"))
	holds(sc.deviceKeys, "device keys", device(honest(x), y))
	holds(sc.certificates, "certificates", certificate(keyID(honest(x)), pk(device(honest(x), y))))
	holds(sc.sessions, "the ids of sessions", f("session", honest(x), y, z))
	holds(sc.serverKey, "a gateway's TLS key", serverKey(x))
	holds(sc.otherGateway, "another gateway's TLS key", serverKey(f("other")))
	holds(sc.controlKey, "control's key", f("controlkey"))
	if sc.later {
		late := func(t *term, suppose ...*term) {
			th.add("later the attacker learns "+kind(t), f("att-later", t), suppose...)
		}
		late(x, att(x))
		late(f("doorkey"))
		late(f("controlkey"))
		late(serverKey(x))
		late(device(x, y))
		late(x, f("att-later", f("kem-classic", x, y)))
	}
}

// tls is one TLS 1.3 connection, as one end of it sees it: its shared secret and its transcript.
type tls struct {
	secret, transcript *term
	sc                 scenario
}

func (t tls) export(label string) *term {
	if t.sc.exporterUnbound {
		return f("export", f(label), t.secret, f("none"))
	}
	return f("export", f(label), t.secret, t.transcript)
}

func (t tls) doorMAC(id *term) *term {
	if t.sc.macWithoutExporter {
		return f("hmac", doorSecret(id), f("door"))
	}
	return f("hmac", doorSecret(id), t.export("door"))
}

func (t tls) toGateway(m *term) *term {
	if t.sc.inTheOpen && m.fn == "knock" {
		return m
	}
	return senc(m, f("clientkey", t.secret, t.transcript))
}

func (t tls) toClient(m *term) *term {
	if t.sc.oneKey {
		return senc(m, f("clientkey", t.secret, t.transcript))
	}
	return senc(m, f("serverwritekey", t.secret, t.transcript))
}

// answer is what tells the client that the door is open.
func (t tls) answer(id, hello *term) *term {
	if t.sc.oneKey {
		return t.toClient(f("knock", id, t.doorMAC(id), hello))
	}
	return t.toClient(f("marker", t.export("marker")))
}

// certVerify is what the server signs.
func (sc scenario) certVerify(ch, sh, key *term) *term {
	if sc.helloUnsigned {
		ch = f("none")
	}
	return f("certverify", ch, sh, pk(key))
}

func (sc scenario) transcript(ch, sh, key *term) *term {
	if sc.early {
		sh = f("none")
	}
	return f("transcript", ch, sh, pk(key))
}

// asked is what both ends must agree on of a HELLO, and how it is written and signed.
type asked struct {
	transport, version, flags, features, session, next, device, cert *term
}

func (a asked) proof(t tls, serverKey *term) *term {
	none := f("none")
	if t.sc.proofWithoutFields {
		a.transport, a.version, a.flags, a.features, a.next = none, none, none, none, none
	}
	if t.sc.proofWithoutServer {
		serverKey = none
	}
	return f("proof", a.transport, a.version, a.flags, a.features, a.session, a.next, a.device, serverKey, a.cert,
		t.export("proof"))
}

func (a asked) hello(signature *term) *term {
	return f("hello", a.version, a.flags, a.features, a.session, a.next, a.device, a.cert, signature)
}

func (a asked) list() []*term {
	return []*term{a.transport, a.version, a.flags, a.features, a.session, a.next, a.device, a.cert}
}

// client is an honest user's device, as it enrols, or shows its certificate to use or renew it. To which gateway, by
// which transport, with which flags, for which of its sessions: as the attacker likes.
func (sc scenario) client(th *theory, enrols bool) {
	r := th.role("a client")
	user, n, gw := honest(r.v("user")), r.v("n"), r.v("gateway")
	for _, x := range []string{"gateway", "transport", "version", "flags", "features", "next", "which session"} {
		r.in(r.v(x))
	}
	id, key := keyID(user), device(user, n)
	a := asked{transport: r.v("transport"), version: r.v("version"), flags: f("flags", f("certified"), r.v("flags")),
		features: r.v("features"), session: f("session", user, n, r.v("which session")), next: r.v("next"), device: pk(key),
		cert: certificate(id, pk(key))}
	if enrols {
		r.name = "a client that enrols"
		a.flags.args[0], a.cert = f("enrol"), f("none")
	}
	about := []*term{user, n, a.flags.args[0]}
	random, secret, classic := r.fresh("clientrandom", about...), r.fresh("secret", about...), r.fresh("classicsecret", about...)
	ch := f("clienthello", random, f("both"), pk(secret), pk(classic))
	r.out(ch)

	for _, group := range []string{"hybrid", "classic"} {
		share := f("kem", r.v("shared"), pk(secret))
		if group == "classic" {
			if !sc.clientTakesClassic {
				break
			}
			share = f("kem-classic", r.v("shared"), pk(classic))
		}
		r := r.fork(r.name)
		server := serverKey(gw)
		if sc.noPin {
			server = r.v("whoever")
		}
		shared := r.v("shared")
		sh := f("serverhello", r.v("serverrandom"), f(group), share)
		if sc.staticKeys || sc.early {
			shared = r.fresh("sealed", about...)
			sh = f("serverhello", r.v("serverrandom"), f(group), pk(secret))
		}
		r.in(sh)
		r.in(sign(sc.certVerify(ch, sh, server), server))
		if sc.staticKeys || sc.early {
			r.out(f("kem", shared, pk(server)))
		}
		t := tls{shared, sc.transcript(ch, sh, server), sc}
		r.end("tls", gw, ch, sh)

		knocked := append([]*term{gw, id}, a.list()...)
		r.begin("knocked", append(knocked, t.export("proof"), r.session)...)
		r.begin("shows", id, t.export("door"))
		hello := a.hello(sign(a.proof(t, pk(server)), key))
		r.out(t.toGateway(f("knock", id, t.doorMAC(id), hello)))
		r.out(t.toGateway(f("frame", r.fresh("clientpayload", append([]*term{gw}, about...)...))))

		r.in(t.answer(id, hello))
		r.end("through", gw, id, t.export("marker"))
		r.in(t.toClient(f("welcome", r.v("cert"))))
		r.end("welcomed", append(append([]*term{gw, id}, a.list()...), t.export("proof"), r.v("cert"))...)
	}
}

// gateway is any gateway of the network with one connection, and control behind it. To one who offers X25519 alone it is
// a website.
func (sc scenario) gateway(th *theory) {
	for _, offer := range []string{"both", "classic"} {
		r := th.role("a gateway")
		gw := r.v("gateway")
		if sc.otherGateway {
			gw = f("home") // the attacker is the others
		}
		for _, x := range []*term{gw, r.v("transport")} {
			r.in(x)
		}
		ch := f("clienthello", r.v("clientrandom"), f(offer), r.v("share"), r.v("classic share"))
		r.in(ch)
		shared := r.fresh("shared", f(offer))
		share, group := f("kem", shared, r.v("share")), "hybrid"
		if offer == "classic" || sc.gatewayTakesOld {
			share, group = f("kem-classic", shared, r.v("classic share")), "classic"
		}
		if sc.staticKeys || sc.early {
			share = r.v("share")
		}
		sh := f("serverhello", r.fresh("serverrandom", f(offer)), f(group), share)
		r.begin("served", gw, ch, sh)
		r.out(sh)
		r.out(sign(sc.certVerify(ch, sh, serverKey(gw)), serverKey(gw)))
		if sc.staticKeys || sc.early {
			shared = r.v("shared")
			r.in(f("kem", shared, pk(serverKey(gw))))
		}
		if group == "hybrid" || sc.gatewayTakesOld || sc.clientTakesClassic {
			sc.door(r, gw, tls{shared, sc.transcript(ch, sh, serverKey(gw)), sc})
		} // else the website
	}
}

// door is a gateway behind the handshake. It gives a certificate that it was shown back as the renewed one.
func (sc scenario) door(r *role, gw *term, t tls) {
	id := r.v("id")
	opened := r.fork(r.name)
	hello := opened.v("hello")
	opened.in(t.toGateway(f("knock", id, t.doorMAC(id), hello)))
	opened.end("opened", id, t.export("door"), r.session)
	opened.begin("opens", gw, id, t.export("marker"))
	opened.out(t.answer(id, hello))

	for _, enrols := range []bool{true, false} {
		if sc.full && enrols {
			continue
		}
		r, id := r.fork("a gateway that is shown a certificate"), id
		key := r.v("device key")
		a := asked{transport: r.v("transport"), version: r.v("version"), flags: f("flags", f("certified"), r.v("flags")),
			features: r.v("features"), session: r.v("which session"), next: r.v("next"), device: pk(key)}
		given := certificate(id, pk(key))
		switch {
		case enrols:
			r.name = "a gateway that enrols"
			id = keyID(r.v("user")) // control knows which access keys there are
			a.flags.args[0], a.cert, given = f("enrol"), r.v("cert"), certificate(id, pk(key))
		case sc.anyAccessKey:
			a.cert = certificate(r.v("another id"), pk(key))
		default:
			a.cert = given
		}
		hello := a.hello(sign(a.proof(t, pk(serverKey(gw))), key))
		r.in(t.toGateway(f("knock", id, t.doorMAC(id), hello)))
		r.begin("opens", gw, id, t.export("marker"))
		admitted := append([]*term{gw, id}, a.list()...)
		r.end("admitted", append(admitted, t.export("proof"), r.session)...)
		r.begin("admits", append(append([]*term{gw, id}, a.list()...), t.export("proof"), given)...)
		r.out(t.toClient(f("welcome", given)))
		r.out(t.toClient(f("frame", r.fresh("gatewaypayload", gw, id, pk(key)))))
	}
}

// goals are secrets whose loss is an event.
func (sc scenario) goals(th *theory) {
	var any []*term
	for i := range 30 {
		any = append(any, &term{v: i})
	}
	att := "att"
	if sc.later {
		att = "att-later"
	}
	lost := func(event string, secret *term, args ...*term) {
		th.add("the attacker has "+secret.fn, f("end:"+event, args...), f(att, secret))
	}
	user, key := honest(any[0]), device(honest(any[0]), any[1])
	lost("leaked id", keyID(user))
	lost("leaked device", pk(key))
	lost("leaked session", f("session", user, any[1], any[2]))
	// A payload has its gateway, what it is about, and all that the run had heard: however much that was.
	for _, c := range th.clauses {
		if c.conclude.fn != "att" {
			continue
		}
		for _, t := range payloads(c.conclude, nil) {
			switch args := any[2 : 2+len(t.args)]; t.fn {
			case "clientpayload":
				lost("leaked up", f(t.fn, args...), args[0])
			case "gatewaypayload":
				about := append([]*term{args[0], keyID(user), pk(device(user, any[1]))}, args[3:]...)
				lost("leaked down", f(t.fn, about...), args[0])
			}
		}
	}
}

// payloads appends the payloads in t.
func payloads(t *term, list []*term) []*term {
	if t.fn == "clientpayload" || t.fn == "gatewaypayload" {
		return append(list, t)
	}
	for _, a := range t.args {
		list = payloads(a, list)
	}
	return list
}

// A query is what must hold of what the roles believe.
type query struct {
	name  string
	event string                               // what is believed,
	about func(sc scenario, args []*term) bool // if of any interest;
	since string                               // what must have happened then: if it is empty, nothing may lead there
	agree []int                                // the arguments of the event that must be those of what happened
	once  bool                                 // each time once
}

// Where the arguments of knocked and admitted are.
const (
	argGateway = iota
	argID
	argTransport
	argVersion
	argFlags
	argFeatures
	argSession
	argNext
	argDevice
	argCert
	argExport
	argRun
)

var (
	first2  = []int{0, 1}
	first3  = []int{0, 1, 2}
	asAsked = []int{argGateway, argID, argTransport, argVersion, argFlags, argFeatures, argSession, argNext, argDevice, argCert,
		argExport}
)

// queries are the columns of docs/model.md's table.
var queries = []query{
	{name: "door", event: "opened", about: notMallory(0), since: "shows", agree: first2},
	{name: "device", event: "admitted", about: both(notMallory(argID), honestDevice), since: "knocked", agree: asAsked},
	{name: "once", event: "admitted", about: both(notMallory(argID), honestDevice), since: "knocked", agree: asAsked, once: true},
	{name: "guest", event: "admitted", about: both(notMallory(argID), not(honestDevice))},
	{name: "moved", event: "admitted", about: both(not(notMallory(argID)), honestDevice)},
	{name: "marker", event: "through", about: notTheAttackers, since: "opens", agree: first3},
	{name: "welcome", event: "welcomed", about: notTheAttackers, since: "admits", agree: append([]int{argRun}, asAsked...)},
	{name: "tls", event: "tls", about: notTheAttackers, since: "served", agree: first3},
	{name: "up", event: "leaked up", about: notTheAttackers},
	{name: "down", event: "leaked down", about: notTheAttackers},
	{name: "id", event: "leaked id"},
	{name: "key", event: "leaked device"},
	{name: "session", event: "leaked session"},
}

func both(a, b func(scenario, []*term) bool) func(scenario, []*term) bool {
	return func(sc scenario, args []*term) bool { return a(sc, args) && b(sc, args) }
}

func not(a func(scenario, []*term) bool) func(scenario, []*term) bool {
	return func(sc scenario, args []*term) bool { return !a(sc, args) }
}

// notMallory is true unless it is the attacker's own access key.
func notMallory(arg int) func(scenario, []*term) bool {
	return func(_ scenario, args []*term) bool { return !args[arg].equal(keyID(f("mallory"))) }
}

// honestDevice is true if the device may be an honest user's. One whose secret the attacker made is not.
func honestDevice(sc scenario, args []*term) bool {
	d := args[argDevice]
	return d.fn == "" || d.args[0].fn == "devicekey" || d.args[0].fn == "" && sc.deviceKeys
}

// notTheAttackers is true unless the attacker is that gateway.
func notTheAttackers(sc scenario, args []*term) bool {
	return !sc.otherGateway || !args[argGateway].equal(f("other"))
}

// attack looks for a way to make the query untrue in what the saturated clauses can derive.
func (q query) attack(sc scenario, clauses []*clause) *clause {
	for _, c := range clauses {
		if c.conclude.fn == "end:"+q.event && (q.about == nil || q.about(sc, c.conclude.args)) &&
			!slices.ContainsFunc(c.suppose, func(h *term) bool { return q.explains(h, c.conclude.args) }) {
			return c
		}
	}
	return nil
}

// explains reports whether h is what must have happened.
func (q query) explains(h *term, args []*term) bool {
	if q.since == "" || h.fn != "begin:"+q.since {
		return false
	}
	for _, i := range q.agree {
		if !h.args[i].equal(args[i]) {
			return false
		}
	}
	// A client's run happens once, with one value for each thing in it. If the gateway's run is one of them, two of the
	// gateway's cannot follow from one of the client's.
	return !q.once || args[argRun].fn == "" && h.has(args[argRun].v)
}
