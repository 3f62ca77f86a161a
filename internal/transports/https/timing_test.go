package https_test

import (
	"crypto/tls"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// How long the gateway takes to answer a first request. Whatever its cookies are, one exporter and one MAC are computed:
// for the first cookie that is spelt as a knock, or for none. What is left are a base64 decoding, and the time that reading
// longer requests takes any server. On a machine that others use, too, figures are shown and nothing is asked of them.
func TestAnswerTimes(t *testing.T) {
	if testing.Short() {
		t.Skip("figures only")
	}
	w := start(t)
	names := []string{"a wrong knock", "a random one", "as long, but not spelt so", "another length"}
	took := make([][]time.Duration, len(names))
	for range 100 {
		for _, class := range rand.Perm(len(names)) {
			c := browse(t, w, "h2")
			knock := export(t, w, c)
			value := ""
			switch class {
			case 0:
				knock[0] ^= 1
				value = text(knock)
			case 1:
				value = text(random(len(knock)))
			case 2:
				value = strings.Repeat("_", len(text(knock))-1) + "."
			case 3:
				value = text(random(len(knock) + 1))
			}
			took[class] = append(took[class], answerTime(t, c, value))
			c.Close()
		}
	}
	for i, name := range names {
		slices.Sort(took[i])
		n := len(took[i])
		t.Logf("%-26s median %v, quartiles %v and %v", name, took[i][n/2], took[i][n/4], took[i][n*3/4])
	}
}

// answerTime is from the first request to the first frame of its answer.
func answerTime(t *testing.T, c *tls.Conn, cookie string) time.Duration {
	t.Helper()
	c.Write(append(slices.Clone(preface), settings...))
	time.Sleep(2 * time.Millisecond) // its SETTINGS are out of the way
	f := http2.NewFramer(nil, c)
	began := time.Now()
	c.Write(get2(1, "cookie", "session="+cookie))
	for {
		got, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if got.Header().StreamID == 1 {
			return time.Since(began)
		}
	}
}
