package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godwit-vpn/godwit/internal/flow"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	known := names{
		"both.example.":     {"8.8.8.8", "2606:4700::1111"},
		"mapped.example.":   {"::ffff:8.8.8.8"},
		"six.example.":      {"2606:4700::1111"},
		"rebind.example.":   {"10.0.0.1", "8.8.8.8", "169.254.169.254", "::1", "2606:4700::1111"},
		"internal.example.": {"192.168.1.1", "fd00::1"},
		"zero.example.":     {"0.0.0.0"},
	}
	tests := []struct {
		name     string
		families flow.Families
		want     string
		code     flow.Code
	}{
		{"both.example", both, "8.8.8.8 2606:4700::1111", 0},
		{"BOTH.example.", both, "8.8.8.8 2606:4700::1111", 0},
		{"both.example", flow.IPv4, "8.8.8.8", 0},
		{"both.example", flow.IPv6, "2606:4700::1111", 0},
		{"six.example", flow.IPv4, "", flow.CodeNameNotFound},
		{"mapped.example", both, "8.8.8.8", 0},
		{"rebind.example", both, "8.8.8.8 2606:4700::1111", 0},
		{"internal.example", both, "", flow.CodeDenied},
		{"zero.example", both, "", flow.CodeDenied},
		{"nowhere.example", both, "", flow.CodeNameNotFound},
		{"127.1", both, "", flow.CodeNameNotFound},
		{"0x7f000001", both, "", flow.CodeNameNotFound},
		{"a..b", both, "", flow.CodeBadTarget},
		{"", both, "", flow.CodeBadTarget},
		{"a/b", both, "", flow.CodeBadTarget},
		{"8.8.8.8", both, "8.8.8.8", 0},
		{"127.0.0.1", both, "", flow.CodeDenied},
		{"2606:4700::1111", flow.IPv4, "", flow.CodeNetUnreach},
	}
	for _, tt := range tests {
		s := newSockets(t, Config{Lookup: known, Families: tt.families, Allow: []netip.Prefix{}})
		got, err := s.Resolve(t.Context(), tt.name)
		if text := strings.Trim(fmt.Sprint(got), "[]"); text != tt.want || flow.CodeOf(err) != tt.code {
			t.Errorf("%s (%d): got %q, %v; want %q, %v", tt.name, tt.families, text, err, tt.want, tt.code)
		}
		if fe := new(flow.Error); err != nil && (!errors.As(err, &fe) || strings.Contains(fe.Error(), "example")) {
			t.Errorf("%s: error %#v", tt.name, err)
		}
	}
}

func TestLookupErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want flow.Code
	}{
		{&net.DNSError{Err: "no such host", Name: "secret.example", IsNotFound: true}, flow.CodeNameNotFound},
		{&net.DNSError{Err: "server misbehaving", Name: "secret.example", IsTemporary: true}, flow.CodeNameFailed},
		{&net.DNSError{Err: "i/o timeout", Name: "secret.example", IsTimeout: true}, flow.CodeNameFailed},
		{errors.New("secret.example"), flow.CodeNameFailed},
		{nil, flow.CodeNameNotFound}, // and no addresses
	} {
		s := newSockets(t, Config{Lookup: lookupFunc(func(context.Context, string, string) ([]netip.Addr, error) {
			return nil, tt.err
		})})
		_, err := s.Resolve(t.Context(), "secret.example")
		if flow.CodeOf(err) != tt.want || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v: got %v (%v), want %v", tt.err, err, flow.CodeOf(err), tt.want)
		}
	}
}

// An answer is used for a minute, a failure for five seconds, and neither is in memory any longer.
func TestResolverForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		known := names{"good.example.": {"8.8.8.8"}}
		r := newResolver(lookupFunc(func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			asked = append(asked, host)
			return known.LookupNetIP(ctx, network, host)
		}))
		defer r.cache.Close()
		ask := func(name string, want int) {
			t.Helper()
			_, _ = r.resolve(t.Context(), name, typeBoth)
			if len(asked) != want {
				t.Errorf("%v after start: asked %q, want %d questions", name, asked, want)
			}
		}
		kept := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := r.cache.Len(); n != want {
				t.Errorf("%d answers kept, want %d", n, want)
			}
		}
		ask("good.example", 1)
		ask("bad.example", 2)
		ask("good.example", 2)
		ask("bad.example", 2)
		kept(2)
		time.Sleep(negativeTTL - 1)
		ask("bad.example", 2)
		time.Sleep(time.Nanosecond)
		ask("bad.example", 3) // the failure has expired
		time.Sleep(negativeTTL + sweepEvery)
		kept(1)
		time.Sleep(positiveTTL - 2*negativeTTL - sweepEvery - 1)
		ask("good.example", 3)
		time.Sleep(time.Nanosecond)
		kept(0)
		ask("good.example", 4)
		// Failures one after another must not keep the sweeper from what expires.
		for i := range 70 {
			time.Sleep(time.Second)
			_, _ = r.resolve(t.Context(), fmt.Sprintf("bad%d.example", i), typeBoth)
		}
		synctest.Wait()
		if n := r.cache.Len(); n > 7 {
			t.Errorf("%d answers kept of which 5 can be good", n)
		}
	})
}

func TestResolverAsksOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked, givenUp atomic.Int32
		r := newResolver(lookupFunc(func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			asked.Add(1)
			select {
			case <-time.After(time.Second):
				return []netip.Addr{netip.MustParseAddr("8.8.8.8")}, nil
			case <-ctx.Done():
				givenUp.Add(1)
				return nil, ctx.Err()
			}
		}))
		defer r.cache.Close()
		const slow, slower = "slow.example", "slower.example"
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if a, err := r.resolve(t.Context(), slow, typeBoth); err != nil || len(a) != 1 {
					t.Errorf("got %v, %v", a, err)
				}
			})
		}
		// Someone who cannot wait takes nobody else with them.
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := r.resolve(ctx, slow, typeBoth); flow.CodeOf(err) != flow.CodeTimeout {
			t.Errorf("got %v", err)
		}
		cancel()
		wg.Wait()
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}

		// When nobody waits any more the lookup ends, is not remembered, and the next one starts afresh.
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := r.resolve(ctx, slower, typeBoth); flow.CodeOf(err) != flow.CodeTimeout {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if givenUp.Load() != 1 {
			t.Error("the lookup goes on for nobody")
		}
		start := time.Now()
		if _, err := r.resolve(t.Context(), slower, typeBoth); err != nil || time.Since(start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
	})
}

func TestResolverBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		many := slices.Repeat([]netip.Addr{netip.MustParseAddr("8.8.8.8")}, 500)
		r := newResolver(lookupFunc(func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			if strings.HasPrefix(host, "hang") {
				select {
				case <-hang:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return many, nil
		}))
		for i := range maxNames + 100 {
			a, err := r.resolve(t.Context(), fmt.Sprintf("%d.example", i), typeBoth)
			if err != nil || len(a) != maxAddrs {
				t.Fatalf("got %d addresses, %v", len(a), err)
			}
		}
		if n := r.cache.Len(); n != maxNames {
			t.Errorf("%d names known", n)
		}
		var wg sync.WaitGroup
		for i := range maxLookups {
			wg.Go(func() { _, _ = r.resolve(t.Context(), fmt.Sprintf("hang%d.example", i), typeBoth) })
		}
		synctest.Wait()
		if _, err := r.resolve(t.Context(), "other.example", typeBoth); flow.CodeOf(err) != flow.CodeBusy {
			t.Errorf("one too many: got %v", err)
		}
		// Close gives up what is under way.
		r.cache.Close()
		wg.Wait()
		if _, err := r.resolve(t.Context(), "1.example", typeBoth); flow.CodeOf(err) != flow.CodeLocalShutdown {
			t.Errorf("closed: got %v", err)
		}
		close(hang)
	})
}
