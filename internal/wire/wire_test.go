package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// parseAny parses a frame's body by its type, as a receiver does.
func parseAny(t Type, body []byte) (any, error) {
	if t.Numbered() {
		_, rest, err := ParseSeq(body)
		if err != nil {
			return nil, err
		}
		body = rest
	}
	switch t {
	case TypePing, TypePong:
		return first(ParsePing(body))
	case TypeAck:
		return first(ParseAck(body, nil))
	case TypeGoAway:
		return first(ParseGoAway(body))
	case TypeHello:
		return first(ParseHello(body))
	case TypeWelcome:
		return first(ParseWelcome(body))
	case TypeRefused:
		return first(ParseRefused(body))
	case TypeData:
		return first(ParseData(body))
	case TypeOpen:
		return first(ParseOpen(body))
	case TypeOpened:
		return first(ParseOpened(body))
	case TypeFin, TypeWindow:
		return first(ParseMark(body))
	case TypeReset:
		return first(ParseReset(body))
	case TypeResolve:
		return first(ParseResolve(body))
	case TypeResolved:
		return first(ParseResolved(body))
	case TypeClose:
		return first(ParseClose(body))
	}
	return nil, nil
}

func first[T any](v T, err error) (any, error) { return v, err }

var (
	testHello = Hello{Version: 1, Flags: HelloNew | HelloEnrol, Features: 5, Session: SessionID{1, 2}, Next: 9,
		DeviceKey: [32]byte{3}, Signature: [64]byte{4}, Cert: []byte("certificate")}
	testWelcome = Welcome{Version: 1, Flags: WelcomeResumed, Features: 5, Next: 7, Clock: 1e9,
		Addr4: netip.MustParseAddr("10.64.0.2"), Addr6: netip.MustParseAddr("fd00::2"), Families: flow.IPv4 | flow.IPv6,
		Sleep: 600, Window: 1 << 18, Cert: []byte("fresh")}
)

func dataFrame(stream uint32, offset uint64, payload string) []byte {
	b := append(make([]byte, DataOverhead), payload...)
	PutData(b, stream, offset)
	return b
}

// frames holds one of each, with its wire image and what parsing it gives.
var frames = []struct {
	name string
	wire []byte
	hex  string // the recorded image: a change here is a change of protocol
	want any
}{
	{"ping", AppendPing(nil, 0x0102030405060708), "0200000d01020304050607080000000000", uint64(0x0102030405060708)},
	{"pong", AppendPong(nil, 1), "0300000d00000000000000010000000000", uint64(1)},
	{"ack", AppendAck(nil, Ack{Next: 5, Echo: 9, Delay: 1000, Ranges: []Range{{7, 9}, {11, 12}}}),
		"0400003500000000000000050000000000000009000003e802" +
			"00000000000000070000000000000009000000000000000b000000000000000c",
		Ack{Next: 5, Echo: 9, Delay: 1000, Ranges: []Range{{7, 9}, {11, 12}}}},
	{"goaway", AppendGoAway(nil, GoAway{GoAwayDraining, 5000}), "06000006000200001388", GoAway{GoAwayDraining, 5000}},
	{"data", dataFrame(4, 77, "hi"), "20000016000000000000000000000004000000000000004d6869",
		Data{Stream: 4, Offset: 77, Payload: []byte("hi")}},
	{"open", AppendOpen(nil, Open{2, 1 << 18, flow.Target{Host: "a.example", Port: 443}}),
		"2100001c0000000000000000000000020004000001bb09612e6578616d706c65",
		Open{2, 1 << 18, flow.Target{Host: "a.example", Port: 443}}},
	{"opened", AppendOpened(nil, Opened{2, flow.CodeRefused, 9}), "22000012000000000000000000000002000100000009",
		Opened{2, flow.CodeRefused, 9}},
	{"fin", AppendFin(nil, Mark{2, 10}), "230000140000000000000000" + "00000002000000000000000a", Mark{2, 10}},
	{"window", AppendWindow(nil, Mark{2, 10}), "250000140000000000000000" + "00000002000000000000000a", Mark{2, 10}},
	{"reset", AppendReset(nil, Reset{2, flow.CodeReset}), "2400000e0000000000000000" + "00000002000a",
		Reset{2, flow.CodeReset}},
	{"resolve", AppendResolve(nil, Resolve{3, "a.example"}), "260000160000000000000000" + "0000000309612e6578616d706c65",
		Resolve{3, "a.example"}},
	{"resolved", AppendResolved(nil, Resolved{3, 0, []netip.Addr{netip.MustParseAddr("192.0.2.1")}}),
		"2700001f0000000000000000" + "0000000300000100000000000000000000ffffc0000201",
		Resolved{3, 0, []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
	{"close", AppendClose(nil, flow.CodeLocalShutdown), "2800000a0000000000000000" + "000e", flow.CodeLocalShutdown},
	{"void", AppendVoid(nil), "290000080000000000000000", nil},
	{"packet", AppendPacket(nil, []byte{0x45, 0}), "050000024500", nil},
	{"padding", AppendPadding(nil, 7), "01000003000000", nil},
	{"refused", AppendRefused(nil, Refused{CauseBusy, 30, 99}), "1200000e000a0000001e0000000000000063",
		Refused{CauseBusy, 30, 99}},
	{"hello", AppendHello(nil, testHello), "", testHello},
	{"welcome", AppendWelcome(nil, testWelcome), "", testWelcome},
}

func TestFrames(t *testing.T) {
	for _, f := range frames {
		t.Run(f.name, func(t *testing.T) {
			if got := hex.EncodeToString(f.wire); f.hex != "" && got != f.hex {
				t.Errorf("on the wire\n%s, want\n%s", got, f.hex)
			}
			typ, n, err := ParseHeader(f.wire)
			if err != nil || n != len(f.wire)-HeaderLen {
				t.Fatalf("header: %d bytes, %v; the frame has %d", n, err, len(f.wire)-HeaderLen)
			}
			body := f.wire[HeaderLen:]
			got, err := parseAny(typ, body)
			if err != nil || !reflect.DeepEqual(got, f.want) {
				t.Fatalf("parsed %+v, %v; want %+v", got, err, f.want)
			}
			if got, err = parseAny(typ, append(bytes.Clone(body), 0xee)); typ != TypeData && err != nil {
				t.Errorf("a byte behind the known fields was not ignored: %+v, %v", got, err)
			}
			if f.want == nil {
				return
			}
			shortest := len(body)
			if typ == TypeData {
				shortest -= 1 // a shorter chunk is still one
			}
			for n := range shortest {
				if _, err := parseAny(typ, body[:n]); !errors.Is(err, ErrMalformed) {
					t.Fatalf("cut to %d of %d bytes: %v, want ErrMalformed", n, len(body), err)
				}
			}
		})
	}
}

func TestBadValues(t *testing.T) {
	tests := map[string][]byte{
		"too long a frame":    {byte(TypeData), 0x01, 0x00, 0x00},
		"ack ranges touch":    AppendAck(nil, Ack{Next: 5, Ranges: []Range{{5, 6}}}),
		"ack range is empty":  AppendAck(nil, Ack{Next: 5, Ranges: []Range{{7, 7}}}),
		"ack ranges descend":  AppendAck(nil, Ack{Next: 5, Ranges: []Range{{9, 10}, {7, 8}}}),
		"offset out of range": dataFrame(1, 1<<63, "x"),
		"seq out of range":    func() []byte { b := AppendVoid(nil); PutSeq(b, 1<<62); return b }(),
		"empty host":          AppendOpen(nil, Open{Stream: 1}),
		"huge certificate":    AppendHello(nil, Hello{Cert: make([]byte, MaxCert+1)}),
	}
	for name, frame := range tests {
		t.Run(name, func(t *testing.T) {
			typ, n, err := ParseHeader(frame)
			if err == nil {
				_, err = parseAny(typ, frame[HeaderLen:HeaderLen+n])
			}
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("got %v, want ErrMalformed", err)
			}
		})
	}
}

func TestFullChunkFillsRecords(t *testing.T) {
	b := make([]byte, DataOverhead+MaxChunk)
	PutData(b, 1, 2)
	if _, n, err := ParseHeader(b); err != nil || n+HeaderLen != MaxFrame || MaxFrame%16384 != 0 {
		t.Fatalf("a full chunk makes %d bytes, %v", n+HeaderLen, err)
	}
}

func FuzzFrame(f *testing.F) {
	for _, fr := range frames {
		f.Add(fr.wire)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		b := make([]byte, rng.IntN(200))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLen {
			return
		}
		typ, n, err := ParseHeader(b)
		if err != nil || n > len(b)-HeaderLen {
			return
		}
		v, err := parseAny(typ, b[HeaderLen:HeaderLen+n])
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%#x: %v does not match ErrMalformed", uint8(typ), err)
			}
			return
		}
		// What parses must survive being written and parsed again.
		var again []byte
		switch v := v.(type) {
		case Ack:
			again = AppendAck(nil, v)
		case Hello:
			again = AppendHello(nil, v)
		case Welcome:
			again = AppendWelcome(nil, v)
		case Open:
			again = AppendOpen(nil, v)
		case Resolved:
			again = AppendResolved(nil, v)
		default:
			return
		}
		v2, err := parseAny(typ, again[HeaderLen:])
		if err != nil || !reflect.DeepEqual(v, v2) {
			t.Fatalf("%#x: %+v was written as %+v, %v", uint8(typ), v, v2, err)
		}
	})
}
