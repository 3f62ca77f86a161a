module github.com/godwit-vpn/godwit

go 1.26.0

// 1.26.8 and older: HTTP/2 servers that anyone can crash (CVE-2026-97032 and others).
toolchain go1.26.11

// What the program is made of. Each is a person we trust at night.
require (
	github.com/google/nftables v0.3.0 // the kill switch, in one transaction, without the program nft
	github.com/makiuchi-d/gozxing v0.1.1 // reads the QR code in a picture of an access key
	github.com/metacubex/utls v1.8.7 // TLS inside of QUIC: the copy of utls that sagernet/quic-go is written for
	github.com/mholt/acmez/v3 v3.1.7 // asks CAs for certificates: certmagic's client, without its listeners and its key files
	github.com/miekg/dns v1.1.73 // DNS updates, for CAs that look there
	github.com/pelletier/go-toml/v2 v2.4.3 // reads settings, and says in which line they are wrong
	github.com/quic-go/qpack v0.6.0 // HTTP/3's header compression
	github.com/refraction-networking/utls v1.8.2 // TLS whose first message is the one that we say, not Go's
	github.com/sagernet/quic-go v0.61.0-sing-box-mod.7 // QUIC and HTTP/3: quic-go (MIT) with Chrome's packets and a congestion control of one's own
	github.com/spf13/cobra v1.10.2 // verbs, flags, help, completion in four shells
	github.com/tailscale/wf v0.0.0-20240214030419-6fbb0a674ee6 // Windows' kill switch: its filtering platform, whose calls have no other binding
	github.com/vishvananda/netlink v1.3.1 // routes, rules and addresses
	github.com/xtaci/kcp-go/v5 v5.6.72 // repeats what DNS loses; its state machine alone. Not 5.7 and later: they link an LGPL package
	go4.org/netipx v0.0.0-20220725152314-7e7bdc8411bf // networks as ranges, and as package net has them; tailscale/wf brings it, too
	golang.org/x/net v0.62.0 // HTTP/2: the website's server, and a browser's frames; SOCKS and DNS in tests
	golang.org/x/sync v0.24.0 // errgroup: Run owns its goroutines
	golang.org/x/sys v0.49.0 // socket options and reads that do not wait
	golang.org/x/term v0.47.0 // is this a terminal, and how wide
	golang.org/x/time v0.16.0 // rate limits
	golang.zx2c4.com/wintun v0.0.0-20230126152724-0fa3db229ce2 // Windows' TUN, by WireGuard's wintun.dll, which is not part of this
	modernc.org/sqlite v1.61.1 // keys and devices of one machine, in pure Go
	rsc.io/qr v0.2.0 // draws the QR code of an access key
)

// What only tests, bench and lab use.
require (
	github.com/gopacket/gopacket v1.7.7 // another opinion on what an IP packet is, and captures
	github.com/letsencrypt/pebble/v2 v2.10.1 // a CA that really validates (MPL 2.0, never linked into the program)
	github.com/quic-go/quic-go v0.65.0 // the lab's sites speak HTTP/3 too
	github.com/rogpeppe/go-internal v1.16.0 // testscript: the command line as scripts a user could read
	go.uber.org/goleak v1.3.0 // a goroutine that outlives its test fails it
)

require (
	github.com/BurntSushi/toml v0.4.1 // indirect
	github.com/andybalholm/brotli v1.3.0 // indirect
	github.com/dustin/go-humanize v1.1.0 // indirect
	github.com/go-jose/go-jose/v4 v4.1.4 // indirect
	github.com/google/go-cmp v0.6.0 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/klauspost/cpuid/v2 v2.2.6 // indirect
	github.com/klauspost/reedsolomon v1.12.0 // indirect
	github.com/letsencrypt/challtestsrv v1.4.2 // indirect
	github.com/mattn/go-isatty v0.0.24 // indirect
	github.com/mdlayher/netlink v1.7.3-0.20250113171957-fbb4dce95f42 // indirect
	github.com/mdlayher/socket v0.5.0 // indirect
	github.com/ncruces/go-strftime v1.1.0 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/remyoudompheng/bigfft v0.0.0-20230129092748-24d4a6f8daec // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/tjfoc/gmsm v1.4.1 // indirect
	github.com/vishvananda/netns v0.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/exp v0.0.0-20240904232852-e7e105dedf7e // indirect
	golang.org/x/exp/typeparams v0.0.0-20220218215828-6cf2b201936e // indirect
	golang.org/x/mod v0.42.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	golang.org/x/tools/go/expect v0.1.1-deprecated // indirect
	golang.org/x/xerrors v0.0.0-20200804184101-5ec99f83aff1 // indirect
	honnef.co/go/tools v0.3.2 // indirect
	modernc.org/libc v1.79.0 // indirect
	modernc.org/mathutil v1.7.1 // indirect
	modernc.org/memory v1.12.1 // indirect
)
