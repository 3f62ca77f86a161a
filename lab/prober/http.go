package prober

// Plain HTTP, and what is no HTTP, to whatever it is; nothing at all; half closes (B3).

var (
	httpKind = Kind{Family: "http", Network: "tcp", Knocks: true}

	httpProbes = []Probe{
		fixed(httpKind.named("HTTP GET /"), []byte("GET / HTTP/1.1\r\nHost: www.site.example\r\n\r\n")),
		fixed(httpKind.named("HTTP, a bad request"), []byte("GET / HTTP/9.9\r\nHost site\r\n\r\n")),
		fixed(httpKind.named("HTTP/2 without TLS"), getHTTP2),
		fixed(httpKind.named("nothing")),
		halfClosed("nothing, half closed"),
		halfClosed("half a request, half closed", []byte("GET / HT")),
	}
)

func (k Kind) named(name string) Kind {
	k.Name = name
	return k
}
