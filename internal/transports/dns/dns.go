// Package dns is the pipe of last resort: bytes carried in the names of DNS queries and in the answers to them, through
// whatever resolver the network has. The gateway is the name server of a zone of its own, to strangers an ordinary small
// one; inside the pipe is the pipes' TLS 1.3 and behind that the door.
//
//	client ── query: <base32>.<zone> ──> resolver ──> gateway: looks for the authenticator, finds the session
//	       <── TXT, NULL, CNAME, AAAA or A ──       <── at once if it has something to say, else after half a second
//
// A query's name, and what an answer's records hold, is one sealed message. The seal keeps no secrets, for every holder
// of an access key has its key: it tells users from strangers before any state is spent, ties an answer to its query, and
// makes what repeats look as if it did not. What it seals:
//
//	query     session (24)  nonce (16)  kind (2)  type (3)  size (3)  [open: segment (8)]  packet
//	answer    0 (6)  more (1)  gone (1)  packet
//	sealed    tag (32)  the rest under a keystream that the tag begins
//
// type is what the query asks for, as resolvers ask for other types of a name as well; size how long the answer's message
// may be, 512 bytes and that many times 120; segment how long the gateway's segments are to be, in units of 4. A packet is
// what the two ends of the ARQ say to each other, KCP's segments with what is the same in all of them said once and what
// follows from other things left out:
//
//	packet    acks (1)  window (7)  una (16)  segments         acks: una-1 came just now
//	segment   0 (2)  0 (6)  sn (16)  bytes up to the packet's end
//	          1 (2)  length (14)  sn (16)  bytes
//	          2 (2)  0 (6)  sn (16)                            came
//	          3 (2)  0 (4)  tell (1)  ask (1)                  KCP's window probes
//
// What does not read so is a stranger's. PROTOCOL.md has the rest.
//
// What it costs through unbound, which asks twice for every name to hide its type, with 20 ms to it and 100 ms from there to
// the gateway, at 50 queries a second (TestCost and BenchmarkPace say it of other machines):
//
//	                         cold, until the gateway's link     warm            up         down
//	                         has been heard
//	names of 253, TXT 1232   23 queries, 1.4 s                  22, 1.0 s       4.5 kB/s   47 kB/s
//	names of 72, TXT 1232    113 queries, 3.0 s                 112, 2.7 s      0.9 kB/s   40 kB/s
//	names of 253, TXT 512    32 queries, 2.4 s                  31, 1.5 s
//	names of 72, AAAA 512    135 queries, 6.5 s                 130, 3.3 s
//	idle                     a query every 4 to 5 s
//
// Half of the queries carry the client's hello with its post-quantum share, 1.4 KB that nothing makes shorter. Warm saves the
// search for a way. A ticket is used, with fresh key exchange, where it saves more answers than it costs queries, which is
// the third row (without one it takes 30 to 35 queries and 2 s); in the others it costs three to eleven queries more and
// saves no time.
//
//	name.go      names and bytes
//	seal.go      the authenticator
//	answer.go    answers and bytes
//	packet.go    the ARQ's packets
//	arq.go       the ARQ: KCP, and what it must not know of DNS
//	conn.go      a net.Conn on an ARQ
//	zone.go      the name server that strangers meet
//	server.go    the gateway's end: the name server
//	session.go   and one client's pipe there
//	resolver.go  how a query gets to a resolver: UDP, TCP, TLS
//	doh.go       and HTTPS
//	client.go    the client's end: when to ask
//	dial.go      the transport
package dns

import "time"

// Name is the transport's name.
const Name = "dns"

// Hold is how long the gateway holds back an empty answer, so that what comes meanwhile need not wait for the next
// query. Resolvers ask again after 0.4 s to 2 s.
const Hold = 500 * time.Millisecond

// DefaultRate is how many queries a second a client sends at most while it is busy; a browser that loads a page sends as
// many for a moment.
const DefaultRate = 50

// ShortName is a length of names that some networks let pass when they drop longer ones.
const ShortName = 72

// MaxName is how long a name can be, without its last dot (RFC 1035, section 2.3.4).
const MaxName = 253
