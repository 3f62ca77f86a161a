package session

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

// slowly sends n bytes, one each 100 ms, and ends.
func slowly(n int) func(*Stream, flow.Target) {
	return func(st *Stream, _ flow.Target) {
		st.Answer(nil)
		for i := range n {
			time.Sleep(100 * time.Millisecond)
			if _, err := st.Write([]byte{byte(i)}); err != nil {
				return
			}
		}
		st.CloseWrite()
		io.Copy(io.Discard, st)
	}
}

// draining is a session with a stream under way, whose gateway has asked the client to leave it.
func draining(t *testing.T, within time.Duration, links int, accept func(*Stream, flow.Target)) (*pair, flow.Stream) {
	t.Helper()
	p := newPair(t, accept)
	for range links {
		p.attach(fast)
	}
	st, err := p.client.Open(t.Context(), target, false)
	if err != nil {
		t.Fatal(err)
	}
	p.gateway.Drain(within)
	time.Sleep(time.Second)
	if !p.client.Leaving() {
		t.Fatal("the client does not leave the session")
	}
	return p, st
}

// over checks that both ends have ended and hold nothing.
func (p *pair) over() {
	p.t.Helper()
	time.Sleep(time.Second) // the far application notices
	synctest.Wait()
	if p.client.Err() == nil || p.gateway.Err() == nil || p.pool.Used() != 0 {
		p.t.Errorf("client %v, gateway %v, %d bytes held", p.client.Err(), p.gateway.Err(), p.pool.Used())
	}
}

// A session that is drained opens nothing new, carries on what it has, and is closed when that has ended.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 2000 // more than three minutes
		p, st := draining(t, time.Hour, 2, slowly(n))
		if _, err := p.client.Open(t.Context(), target, true); !errors.Is(err, ErrLeaving) {
			t.Errorf("a stream opened in it: %v", err)
		}
		if _, err := p.client.Resolve(t.Context(), "known.example"); !errors.Is(err, ErrLeaving) {
			t.Errorf("a name looked up in it: %v", err)
		}
		got, err := io.ReadAll(st)
		if err != nil || len(got) != n {
			t.Errorf("%d of %d bytes, %v", len(got), n, err)
		}
		st.Close()
		if p.client.Err() != nil {
			t.Error("it was closed at the very moment at which the stream ended")
		}
		ended := time.Now()
		<-p.gateway.Done()
		if d := time.Since(ended); d > leaveIdle+2*leaveLook {
			t.Errorf("closed %v after the last stream", d)
		}
		<-p.client.Done()
		p.over()
	})
}

// What the far side had acknowledged and not yet delivered when the last stream ended here is delivered all the same.
func TestDrainDelivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := pattern(100<<10, 5)
		got := make(chan []byte, 1) // the test may have failed
		p, st := draining(t, time.Hour, 1, func(st *Stream, _ flow.Target) {
			st.Answer(nil)
			st.CloseWrite()
			time.Sleep(3 * time.Second)
			b, _ := io.ReadAll(st)
			got <- b
		})
		st.Write(want)
		st.(*Stream).CloseWrite()
		io.ReadAll(st)
		if b := <-got; !bytes.Equal(b, want) {
			t.Errorf("%d of %d bytes were delivered", len(b), len(want))
		}
		<-p.gateway.Done()
		<-p.client.Done()
		p.over()
	})
}

// When the time is over the session is closed, whatever is under way.
func TestDrainLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		p, st := draining(t, time.Minute, 1, slowly(1e6))
		_, err := io.ReadAll(st)
		if d := time.Since(began); flow.CodeOf(err) != flow.CodeSessionLost || d < 50*time.Second || d > 70*time.Second {
			t.Errorf("after %v: %v", d, err)
		}
		<-p.gateway.Done()
		<-p.client.Done()
		p.over()
	})
}

// A session that is drained ends at both ends as soon as it has no link, but not when it has lost one of two.
func TestDrainLosesLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, st := draining(t, time.Hour, 2, slowly(1e6))
		p.links[0].reset()
		if _, err := io.ReadFull(st, make([]byte, 1000)); err != nil {
			t.Errorf("with one link left: %v", err)
		}
		p.links[1].reset()
		began := time.Now()
		_, err := io.ReadAll(st)
		if d := time.Since(began); flow.CodeOf(err) != flow.CodeSessionLost || d > time.Second {
			t.Errorf("without a link: %v after %v", err, d)
		}
		p.over()
	})
}

// A gateway lets go of a drained session whose client is not there any more, and at once of one without links.
func TestDrainForsaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t, echo)
		p.gateway.Drain(time.Hour)
		if flow.CodeOf(p.gateway.Err()) != flow.CodeSessionLost {
			t.Errorf("a session without links that was drained: %v", p.gateway.Err())
		}
		p.client.Close(0)

		p = newPair(t, echo)
		p.attach(fast).blackHole()
		p.gateway.Drain(time.Hour)
		began := time.Now()
		<-p.gateway.Done()
		if d := time.Since(began); d > 2*time.Minute {
			t.Errorf("one whose client is gone ended after %v", d)
		}
		p.client.Close(0)
	})
}
