package link

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"flag"
	"math"
	mrand "math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/godwit-vpn/godwit/internal/transport"
)

// These tests ask, as dudect does (Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?", DATE 2017), whether
// the door takes longer for one class of knocks than for another: both are tried in random order, and Welch's t says how
// sure it is that their means differ. On a machine that others use, too, numbers wander. So a short run by itself only
// fails on a difference that is beyond doubt, three times in a row; and where a comparison that leaks on purpose is not
// seen, the machine is too noisy to say anything.

// timings is asked for like this: go test ./internal/link -run Timing -v -timings 1000000
var timings = flag.Int("timings", 0, "knocks to time; then |t| must be below 4.5")

const (
	shortTimings = 60_000
	surely       = 30  // |t| that no noise explains
	suspicious   = 4.5 // dudect's, for long runs
	timedAtOnce  = 5_000
)

// classes makes a knock of one of two classes in b.
type classes func(b []byte, second bool)

// moments are Welford's.
type moments struct{ n, mean, m2 float64 }

func (m *moments) add(x float64) {
	m.n++
	d := x - m.mean
	m.mean += d / m.n
	m.m2 += d * (x - m.mean)
}

func welch(a, b moments) float64 {
	if a.n < 2 || b.n < 2 {
		return 0
	}
	spread := a.m2/(a.n-1)/a.n + b.m2/(b.n-1)/b.n
	if spread == 0 {
		return 0
	}
	return (a.mean - b.mean) / math.Sqrt(spread)
}

// crops are the percentiles above which times are left out: what is slow was mostly interrupted.
var crops = []float64{0.5, 0.75, 0.9, 0.95, 0.99, 1}

// leak times opens n times and returns the largest |t| of all crops, and the difference of the means there.
func leak(opens func([]byte) bool, make2 classes, n int) (t float64, apart time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	knocks := make([][DoorLen]byte, timedAtOnce)
	second := make([]bool, timedAtOnce)
	took := make([]float64, timedAtOnce)
	var limits []float64
	all := make([][2]moments, len(crops))
	for done := -timedAtOnce; done < n; done += timedAtOnce { // the first round warms up and sets the limits
		for i := range knocks {
			second[i] = mrand.Uint32()&1 == 1
			make2(knocks[i][:], second[i])
		}
		runtime.GC()
		var knock [DoorLen]byte // always in the same place
		for i := range knocks {
			knock = knocks[i]
			began := time.Now()
			opens(knock[:])
			took[i] = float64(time.Since(began))
		}
		if limits == nil {
			sorted := slices.Sorted(slices.Values(took))
			for _, c := range crops[:len(crops)-1] {
				limits = append(limits, sorted[int(c*timedAtOnce)])
			}
			limits = append(limits, math.Inf(1))
			continue
		}
		for i, x := range took {
			for c, limit := range limits {
				if x <= limit {
					class := 0
					if second[i] {
						class = 1
					}
					all[c][class].add(x)
				}
			}
		}
	}
	for _, m := range all {
		if u := welch(m[0], m[1]); math.Abs(u) > math.Abs(t) {
			t, apart = u, time.Duration(m[0].mean-m[1].mean)
		}
	}
	return math.Abs(t), apart
}

// The classes. Which access keys there are nobody asks the door: known is one that the gateway could know.
var (
	known   = [8]byte{1, 2, 3}
	doorKey = func() (k [32]byte) { rand.Read(k[:]); return k }()
)

// derive is control's derivation of a door secret.
func derive(id [8]byte) [16]byte {
	b, err := hkdf.Key(sha256.New, doorKey[:], nil, "godwit door secret v1"+string(id[:]), 16)
	if err != nil {
		panic(err)
	}
	return [16]byte(b)
}

func timedDoor(t *testing.T) (s transport.Secured, right [DoorLen]byte) {
	c := new(conn)
	rand.Read(c.secret[:])
	mac, err := doorMAC(c, derive(known))
	if err != nil {
		t.Fatal(err)
	}
	copy(right[:], known[:])
	copy(right[8:], mac)
	return c, right
}

func TestTiming(t *testing.T) {
	s, right := timedDoor(t)
	door := Door{Secret: derive}
	opens := func(b []byte) bool { return door.Opens(s, b) }
	almost := right
	almost[DoorLen-1] ^= 1
	if !opens(right[:]) || opens(almost[:]) {
		t.Fatal("the door is not the one that is to be timed")
	}
	prefix := func(b []byte, second bool) {
		if copy(b, almost[:]); second {
			rand.Read(b[8:])
		}
	}
	// The same work, but for how it compares.
	leaky := func(b []byte) bool {
		mac, err := doorMAC(s, door.Secret([8]byte(b)))
		for i := range mac {
			if mac[i] != b[8+i] {
				return false
			}
		}
		return err == nil
	}
	n := max(*timings, shortTimings)
	seen, apart := 0.0, time.Duration(0)
	for range 4 {
		if seen, apart = leak(leaky, prefix, n); seen > surely {
			break
		}
		n *= 2
	}
	t.Logf("a comparison that stops at the first difference: |t| = %.1f, %v apart, %d knocks", seen, apart, n)
	if seen < surely {
		t.Skip("this machine is too busy for times to say anything")
	}
	n = max(*timings, n)

	for name, make2 := range map[string]classes{
		"all but the last bit right, or random": prefix,
		"right, or random": func(b []byte, second bool) {
			if copy(b, right[:]); second {
				rand.Read(b[8:])
			}
		},
		"an access key that is known, or any": func(b []byte, second bool) {
			copy(b, known[:])
			if rand.Read(b[8:]); second {
				rand.Read(b[:8])
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			limit, tries := float64(surely), 3
			if *timings > 0 {
				limit = suspicious
			}
			for try := range tries {
				seen, apart := leak(opens, make2, n)
				t.Logf("|t| = %.1f, %v apart, %d knocks", seen, apart, n)
				if seen < limit {
					return
				}
				if try == tries-1 {
					t.Errorf("the door's time tells them apart: |t| = %.1f", seen)
				}
			}
		})
	}
}

// Before the MAC is compared the door derives one secret, from the id alone, and asks nobody: whoever knocks.
func TestDoorAsksNobody(t *testing.T) {
	s, right := timedDoor(t)
	var derived [][8]byte
	door := Door{Secret: func(id [8]byte) [16]byte {
		derived = append(derived, id)
		return derive(id)
	}}
	for name, id := range map[string][8]byte{"known": known, "unknown": {9, 9, 9}, "zero": {}} {
		derived = nil
		knock := right
		copy(knock[:], id[:])
		if door.Opens(s, knock[:]) != (id == known) {
			t.Errorf("%s: the door is wrong", name)
		}
		if !slices.Equal(derived, [][8]byte{id}) {
			t.Errorf("%s: the secrets of %x were derived", name, derived)
		}
	}
}
