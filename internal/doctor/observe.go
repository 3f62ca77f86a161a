package doctor

import "time"

// Outcome is how one attempt ended.
type Outcome string

// The outcomes.
const (
	OK       Outcome = "ok"
	Reset    Outcome = "reset"        // in the middle, by a reset
	Closed   Outcome = "closed"       // in the middle, by an ordinary end
	Refused  Outcome = "refused"      // at once, by whoever holds the address or in its name
	Silent   Outcome = "silent"       // nothing came in time
	NoRoute  Outcome = "no route"     // this machine does not know where to send it
	Other    Outcome = "other"        // an answer that makes no sense
	Untested Outcome = "not testable" // this machine could not even try
)

// cut reports whether somebody, rather than nobody, ended it: what a firewall does to a connection that it minds.
func (o Outcome) cut() bool { return o == Reset || o == Closed || o == Silent }

// Observations are what the probes saw: evidence without opinion, and all that Judge knows. Places, names and resolvers are
// numbers: no address and no name is in here, so that it can be shown to others as it is.
type Observations struct {
	Seconds   float64    `json:"seconds"`   // all of it took
	Addresses int        `json:"addresses"` // this machine's, but for loopback's and link-local ones
	Places    []Place    `json:"places"`
	Names     []Name     `json:"names"` // number 0 is none at all
	Lookups   []Lookup   `json:"lookups"`
	Resolvers []Resolver `json:"resolvers"`

	Connects  []Connect   `json:"connects"`
	Hellos    []Hello     `json:"hellos"`
	Plains    []Plain     `json:"plains"`
	Residuals []Residual  `json:"residuals"`
	Bulks     []Bulk      `json:"bulks"`
	Questions []Question  `json:"questions"`
	Datagrams []Datagrams `json:"datagrams"`
	Initials  []Initial   `json:"initials"`
	Bursts    []Burst     `json:"bursts"`
	Clocks    []Clock     `json:"clocks"`
}

// Place is one address of the gateway's.
type Place struct {
	IPv6  bool     `json:"ipv6"`
	Ports []uint16 `json:"ports"` // for TLS
	// QUIC are the UDP ports where the access key or the website itself says that there is QUIC.
	QUIC []uint16 `json:"quic"`
}

// Name is one that is said in probes.
type Name struct {
	Own bool `json:"own"` // it is in the access key
}

// MadeUp is the number of a name that nobody has and that is on no list.
const MadeUp = -1

// Lookup is what the system says of one of the access key's names.
type Lookup struct {
	Name  int  `json:"name"`
	Found bool `json:"found"`
}

// Resolver is whether one of the resolvers answers at all.
type Resolver struct {
	Told    bool    `json:"told"` // the user named it; otherwise it is the system's
	Outcome Outcome `json:"outcome"`
}

// Connect is a TCP connection that was tried.
type Connect struct {
	Place   int     `json:"place"`
	Port    uint16  `json:"port"`
	Outcome Outcome `json:"outcome"`
	MS      float64 `json:"ms"`
}

// The hellos.
const (
	Browser = "browser" // the one that Godwit's clients send: today's Chrome
	Plainly = "go"      // Go's own
	Small   = "small"   // Go's own without the post-quantum key, so that it is in one segment
)

// Stage is how far a hello came.
type Stage string

// The stages, in order.
const (
	AtConnect   Stage = "connect"
	AtHandshake Stage = "handshake"
	AtAnswer    Stage = "answer" // of the website, within TLS
	AtEnd       Stage = "end"
)

// Hello is a TLS connection with a request in it.
type Hello struct {
	Place   int     `json:"place"`
	Port    uint16  `json:"port"`
	Hello   string  `json:"hello"`
	Name    int     `json:"name"`
	Outcome Outcome `json:"outcome"`
	Stage   Stage   `json:"stage"`
	In      int     `json:"in"`  // bytes that came
	Key     string  `json:"key"` // "gateway", "other", or none seen
	At      float64 `json:"at"`  // when it began, in seconds
	MS      float64 `json:"ms"`
}

// Plain is a request by HTTP without TLS.
type Plain struct {
	Place   int     `json:"place"`
	Port    uint16  `json:"port"`
	Name    int     `json:"name"` // in Host; none is the address
	Outcome Outcome `json:"outcome"`
	Status  int     `json:"status"`
	// Home says that the answer sends on to the same host by https, as a gateway does; Away that it sends elsewhere.
	Home bool `json:"home"`
	Away bool `json:"away"`
}

// Residual is what came of harmless connections right after one that was cut, and for how long.
type Residual struct {
	Protocol string `json:"protocol"` // "tls", "http" or "quic"
	Place    int    `json:"place"`
	Port     uint16 `json:"port"`
	Name     int    `json:"name"`
	// NewPort is a harmless one from another port of this machine's, SamePort one from the port that the cut one had.
	NewPort  Outcome `json:"new_port"`
	SamePort Outcome `json:"same_port"`
	// Since is when it was cut, Still the last time that harmless ones still were, Gone the first they were not: in seconds, zero
	// is never seen.
	Since float64 `json:"since"`
	Still float64 `json:"still"`
	Gone  float64 `json:"gone"`
}

// Bulk is a connection that carries more than a page.
type Bulk struct {
	Place   int     `json:"place"`
	Port    uint16  `json:"port"`
	Name    int     `json:"name"`
	Outcome Outcome `json:"outcome"` // Silent: it stood still, and was not ended
	Stage   Stage   `json:"stage"`
	Bytes   int     `json:"bytes"` // that came, TLS's own included
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"` // bits a second, once it was under way
}

// Question is one question to one resolver, or to somebody who is none, and everything that was said to it.
type Question struct {
	Resolver int      `json:"resolver"` // -1: asked was a place that runs no resolver
	Place    int      `json:"place"`
	Name     int      `json:"name"` // 0: a made-up one that nobody can have on a list
	TCP      bool     `json:"tcp"`
	Outcome  Outcome  `json:"outcome"`
	Answers  []Answer `json:"answers"`
}

// Answer is one answer.
type Answer struct {
	MS   float64 `json:"ms"`
	Code int     `json:"code"`
	// Class is a number for what it says: two answers that say the same have the same.
	Class   int  `json:"class"`
	Private bool `json:"private"` // an address that nobody on the Internet has
}

// Datagrams are questions for QUIC's versions, which a server answers each by itself, sent on one socket.
type Datagrams struct {
	Place    int     `json:"place"`
	Port     uint16  `json:"port"`
	Age      float64 `json:"age"`      // of the socket when it began, in seconds
	Rate     float64 `json:"rate"`     // at which they were sent, in bits a second
	Answered string  `json:"answered"` // a "1" or a "0" for each
	Refused  bool    `json:"refused"`
}

// Initial is a QUIC connection's beginning.
type Initial struct {
	Place   int     `json:"place"`
	Port    uint16  `json:"port"`
	Version int     `json:"version"`
	Name    int     `json:"name"`
	Split   bool    `json:"split"` // the hello is in two datagrams, as browsers' are
	Outcome Outcome `json:"outcome"`
	// Again is another one without a name a second later on the same socket, Fresh one on a new socket.
	Again Outcome `json:"again"`
	Fresh Outcome `json:"fresh"`
}

// Burst is several hellos at nearly the same time.
type Burst struct {
	Place    int       `json:"place"`
	Name     int       `json:"name"`
	Outcomes []Outcome `json:"outcomes"`
	// Later is a lone one some seconds later; Neutral one without the name.
	Later   Outcome `json:"later"`
	Neutral Outcome `json:"neutral"`
	Since   float64 `json:"since"`
	Still   float64 `json:"still"`
	Gone    float64 `json:"gone"`
}

// Clock is how far this machine's clock is ahead of a server's, in seconds.
type Clock struct {
	Place   int     `json:"place"`
	Skew    float64 `json:"skew"`
	Gateway bool    `json:"gateway"` // it was the gateway's own, inside of TLS
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
