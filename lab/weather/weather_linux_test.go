package weather_test

import (
	"flag"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/lab/netns/netnstest"
	"github.com/godwit-vpn/godwit/lab/peer"
	"github.com/godwit-vpn/godwit/lab/scenario"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

var length = flag.Duration("weather", 10*time.Minute, "how long the weather of each seed lasts")

// Three seeds at once, ten minutes each: no stream is lost, dials stay within their budget, memory is flat.
func TestWeather(t *testing.T) {
	netnstest.Need(t)
	if testing.Short() {
		t.Skip("takes ten minutes")
	}
	if os.Getenv("GODWIT_WEATHER") == "beside" {
		t.Skip("it runs beside these tests")
	}
	const seeds = 3
	// Each country's firewall is two threads that sleep in the kernel most of the time, which Go counts as running.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.NumCPU() + 2*seeds))
	tools := &peer.Tools{Offline: true, Godwit: netnstest.Godwit(t), Log: slog.New(slog.DiscardHandler)}
	var wg sync.WaitGroup
	defer wg.Wait()
	for seed := uint64(1); seed <= seeds; seed++ {
		wg.Go(func() { // not parallel tests, of which there are no more at once than processors
			r, err := scenario.Weather{Seed: seed, Length: *length, Tools: tools}.Run(t.Context())
			if err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			for _, f := range r.Faults() {
				if strings.HasPrefix(f, "two dials within ") { // a packet that waits for a processor looks like it
					t.Logf("seed %d: %s", seed, f)
					continue
				}
				t.Errorf("seed %d: %s", seed, f)
			}
			closest, _ := r.Closest()
			t.Logf("seed %d: %d echoes, the longest wait %v; %d downloads, the longest %v; %d refused; %d dials, %d in a minute, two within %v",
				seed, r.Echoes, r.EchoStall, r.Downloads, r.DownloadStall, r.Refused, len(r.Dials), r.MostDials(), closest)
			for _, s := range r.Spells {
				t.Logf("seed %d: %v for %v %s: %d met, echo %v, download %v, %d dials", seed, s.At, s.For, s.Mood, s.Met, s.Echo, s.Download, s.Dials)
			}
		})
	}
}
