package prober

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// Whether the TLS stack that meets the user's own hello is the one that meets a stranger's (B11). A server that borrows
// another site's handshake (REALITY) ends a hello that it knows itself, and passes all others on. TLS stacks differ in
// how many ChangeCipherSpec records they take behind a hello: Go 16, OpenSSL and BoringSSL 32. So the recorded hello is
// replayed, once as it was and once with another random, which makes it a stranger's, and both are flooded.

const (
	floodFamily   = "flood"
	floodOwn      = "the recorded hello, then a flood of CCS"
	floodStranger = "the same with another random"
)

var floods = []Probe{
	simple{Kind{Name: "the recorded hello alone", Family: "hello", Network: "tcp"}, func(ctx context.Context, t *Target) Answer {
		h := hello(t.Recorded)
		if h == nil {
			return notSent("no hello was recorded")
		}
		return t.talk(ctx, false, h)
	}},
	flood(floodOwn, func([]byte) {}),
	flood(floodStranger, func(h []byte) { h[5+4+2+10] ^= 0x55 }), // record, message, version, in the random
}

func flood(name string, change func(hello []byte)) Probe {
	return simple{Kind{Name: name, Family: floodFamily, Network: "tcp"}, func(ctx context.Context, t *Target) Answer {
		h := bytes.Clone(hello(t.Recorded))
		if h == nil {
			return notSent("no hello was recorded")
		}
		change(h)
		counts := []int{15, 16, 17, 31, 32, 33, 40}
		answers := make([]Answer, len(counts))
		done := make(chan struct{}, len(counts))
		for i, n := range counts {
			go func() {
				answers[i] = t.talk(ctx, false, h, bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, n))
				done <- struct{}{}
			}()
		}
		for range counts {
			<-done
		}
		a := Answer{What: "takes 40", Bytes: answers[0].Bytes, End: Open}
		for i, n := range counts {
			if answers[i].End != Open || strings.Contains(answers[i].What, "alert") {
				a = answers[i]
				a.What, a.Closes = fmt.Sprintf("ends at %d: %s", n, a.What), n
				break
			}
		}
		return a
	}}
}
