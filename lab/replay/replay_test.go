package replay

import (
	"bytes"
	"crypto/tls"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/capture"
	"github.com/godwit-vpn/godwit/lab/firewall"
	"github.com/godwit-vpn/godwit/lab/firewall/firewalltest"
	"github.com/godwit-vpn/godwit/lab/profile"
)

var update = flag.Bool("update", false, "write the crafted recordings anew")

const (
	client = "192.0.2.10"
	server = "203.0.113.20"
)

// bare makes packets of a protocol without ports, a second apart.
func bare(t *testing.T, proto byte, payloads ...string) (frames []firewalltest.Frame) {
	for i, text := range payloads {
		f := firewalltest.Conn(t, firewall.UDP, client+":1", server+":1", time.Duration(i)*time.Second, text)[0]
		const protocol, sum = 14 + 9, 14 + 10
		was := uint16(f.Data[protocol])
		f.Data[protocol] = proto
		// The header's checksum follows (RFC 1624).
		c := ^(uint32(f.Data[sum])<<8 | uint32(f.Data[sum+1])) & 0xffff
		c += uint32(^was&0xffff) + uint32(proto)
		c = c&0xffff + c>>16
		c = ^(c&0xffff + c>>16)
		f.Data[sum], f.Data[sum+1] = byte(c>>8), byte(c)
		frames = append(frames, f)
	}
	return frames
}

// crafted are the recordings that no program made.
func crafted(t *testing.T) map[string][]firewalltest.Frame {
	start := "\x00\x9c\x00\x01\x1a\x2b\x3c\x4d\x00\x01\x00\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 140)
	reply := "\x00\x9c\x00\x01\x1a\x2b\x3c\x4d\x00\x02\x00\x00\x01\x00\x01\x00" + strings.Repeat("\x00", 140)
	pptp := firewalltest.Conn(t, firewall.TCP, client+":40000", server+":1723", 0, ">"+start, "<"+reply)
	// Enhanced GRE (RFC 2637, section 4.1), PPP's LCP inside.
	pptp = append(pptp, firewalltest.Shift(bare(t, firewall.GRE, ">\x30\x01\x88\x0b\x00\x0a\x00\x01\x00\x00\x00\x00\xff\x03\xc0\x21\x01\x01\x00\x04",
		">\x30\x01\x88\x0b\x00\x0a\x00\x01\x00\x00\x00\x01\xff\x03\xc0\x21\x01\x01\x00\x04"), time.Second)...)
	body := "\x80\x08\x00\x00\x00\x00\x00\x01\x80\x08\x00\x00\x00\x02\x01\x00\x80\x0c\x00\x00\x00\x07client"
	l2tp := firewalltest.Conn(t, firewall.UDP, client+":1701", server+":1701", 0,
		">\xc8\x02\x00"+string(rune(12+len(body)))+"\x00\x00\x00\x00\x00\x00\x00\x00"+body,
		"<\xc8\x02\x00"+string(rune(12+len(body)))+"\x00\x01\x00\x00\x00\x00\x00\x01"+body,
		">\x00\x02\x00\x01\x00\x01\xff\x03\xc0\x21\x01\x01\x00\x04")
	request := "SSTP_DUPLEX_POST /sra_{BA195980-CD49-458b-9E23-C84EE0ADCD75}/ HTTP/1.1\r\nHost: vpn.example\r\n" +
		"Content-Length: 18446744073709551615\r\nSSTPCORRELATIONID: {00000000-0000-0000-0000-000000000000}\r\n\r\n"
	response := "HTTP/1.1 200\r\nContent-Length: 18446744073709551615\r\nServer: Microsoft-HTTPAPI/2.0\r\nDate: Wed, 25 Nov 2026 00:00:00 GMT\r\n\r\n"
	sstp := firewalltest.Conn(t, firewall.TCP, client+":40000", server+":443", 0, firewalltest.InTLS(t, tls.VersionTLS12, nil, []string{">" + request, "<" + response,
		">\x10\x01\x00\x0e\x00\x01\x00\x01\x00\x01\x00\x06\x00\x01",
		"<\x10\x01\x00\x30\x00\x02\x00\x01\x00\x04\x00\x28\x00\x00\x00\x03" + string(make([]byte, 32))})...)
	return map[string][]firewalltest.Frame{
		"pptp": pptp, "l2tp": l2tp, "sstp": sstp, // ESP: an index, a number, and what is not to be read.
		"esp": bare(t, firewall.ESP, ">\x00\x00\x10\x01\x00\x00\x00\x01"+strings.Repeat("\xa5\x3c\x91\x0e", 30), ">\x00\x00\x10\x01\x00\x00\x00\x02"+strings.Repeat("\x17\xe2\x4b\xd8", 30)),
	}
}

func TestCrafted(t *testing.T) {
	for name, frames := range crafted(t) {
		file := filepath.Join("data", name+".pcap")
		var recorded []capture.Frame
		for _, f := range frames {
			recorded = append(recorded, capture.Frame{At: f.At, Data: f.Data, Length: len(f.Data)})
		}
		if *update {
			var b bytes.Buffer
			if err := capture.WritePcap(&b, recorded, len(recorded), 1<<16); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if name == "sstp" {
			continue // TLS is another each time
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := capture.ReadPcap(bytes.NewReader(b))
		if err != nil || len(got) != len(recorded) {
			t.Errorf("%s: %d packets, %v: run with -update", name, len(got), err)
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i].Data, recorded[i].Data) {
				t.Errorf("%s: packet %d is another: run with -update", name, i)
			}
		}
	}
}

// A firewall that is asked to stop them does, and one that is not lets them pass.
func TestRun(t *testing.T) {
	t.Parallel()
	const rest = "name = \"x\"\nstory = \"s\"\nsources = [\"y\"]\n[gateway]\naddresses = 1\n[[box]]\nname = \"a\"\nplace = \"in-path\"\n[[box]]\nname = \"b\"\nplace = \"in-path\"\n"
	const drop = "drop = true\nblock = \"endpoint\"\n"
	rules := map[string]string{
		"pptp": "[[box.pptp]]\n[box.pptp.then]\n" + drop,
		"l2tp": "[[box.l2tp]]\n[box.l2tp.then]\n" + drop,
		"sstp": "[[box.sstp]]\n[box.sstp.then]\n" + drop,
		"esp":  "[[box.ip-protocol]]\nnumbers = [50]\n[box.ip-protocol.then]\n" + drop,
		"tor":  "[[box.tls-fingerprint]]\nciphers = [\"1301 1303 1302 c02b c02f cca9\"]\n[box.tls-fingerprint.then]\nreset = [\"gfw-1\"]\n",
	}
	for _, rec := range Recordings() {
		for _, c := range []struct {
			text    string
			stopped bool
		}{{"", false}, {rules[rec.Name], true}} {
			p, err := profile.Parse("x", []byte(rest+c.text))
			if err != nil {
				t.Errorf("%s: %v", rec.Name, err)
				continue
			}
			fw, err := p.Build(1, nil)
			if err != nil {
				t.Fatal(err)
			}
			out, err := Run(rec.Name, fw.Boxes)
			if err != nil {
				t.Fatal(err)
			}
			if want := c.stopped && c.text != ""; out.Stopped() != want || want != (len(out.Events) > 0) || out.Packets < 2 {
				t.Errorf("%s with %q: %+v", rec.Name, c.text, out)
			}
		}
	}
	if _, err := Run("nothing", nil); err == nil {
		t.Error("ran what is not there")
	}
}
