package doctor

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	"github.com/godwit-vpn/godwit/internal/transport/transporttest"
)

// A library of transport dns starts goroutines when it is linked.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// The keys are those of RFC 9001, appendix A.1, and RFC 9369, appendix A.1.
func TestInitialKeys(t *testing.T) {
	t.Parallel()
	for version, want := range map[int]string{1: "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
		2: "14ec9d6eb9fd7af83bf5a668bc17a7e283766aade7ecd0891f70f9ff7f4bf47b"} {
		to, _ := hex.DecodeString("8394c8f03e515708")
		secret, err := quicVersions[version].secret(to)
		if err != nil || hex.EncodeToString(secret) != want {
			t.Errorf("version %d: %x, %v", version, secret, err)
		}
	}
}

// server is an HTTP/3 server on loopback.
func server(t *testing.T) net.Addr {
	t.Helper()
	key, _ := transporttest.NewKey(t)
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &http3.Server{Handler: http.NotFoundHandler(), TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{
		transporttest.Certificate(t, key, "gateway.example")}})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(udp)
	}()
	t.Cleanup(func() {
		s.Close()
		udp.Close()
		<-done
	})
	return udp.LocalAddr()
}

// A real server answers both versions, with hellos of one datagram and of two, and each question for versions.
func TestQUICAnswers(t *testing.T) {
	t.Parallel()
	at := server(t)
	c, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for version := range quicVersions {
		for _, split := range []bool{false, true} {
			if flight, _, err := firstDatagrams(quicVersions[version], "gateway.example", split); err != nil || len(flight) != map[bool]int{false: 1, true: 2}[split] {
				t.Errorf("version %d: %d datagrams, %v", version, len(flight), err)
			}
			if o := begin(t.Context(), c, quicVersions[version], "gateway.example", split); o != OK {
				t.Errorf("version %d, split %v: %s", version, split, o)
			}
		}
	}
	answered, _, refused := datagrams(t.Context(), c, 20, 10*time.Millisecond)
	if strings.Count(answered, "1") < 19 || refused {
		t.Errorf("%s, refused %v", answered, refused)
	}
}

// Nobody listens, and somebody who says nothing.
func TestQUICSilence(t *testing.T) {
	t.Parallel()
	mute, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", mute.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if answered, _, refused := datagrams(ctx, c, 3, time.Millisecond); answered != "000" || refused {
		t.Errorf("a mute server: %s, %v", answered, refused)
	}
	mute.Close()
	if o := begin(ctx, c, quicVersions[1], "", false); o != Refused {
		t.Errorf("where nobody listens: %s", o)
	}
}
