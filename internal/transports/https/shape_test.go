package https

import (
	"net/http"
	"strings"
	"testing"
	"testing/fstest"
)

// Whatever the server's goroutines do first, nothing of an answer is missing from what is imitated.
func TestShapes(t *testing.T) {
	t.Parallel()
	page := []byte("<!doctype html>" + strings.Repeat("text ", 500))
	s := &shapes{cookie: "id=1", website: http.FileServerFS(fstest.MapFS{"index.html": {Data: page}})}
	seen := map[int]int{}
	for range 50 {
		s.look()
		if len(s.all) != shapeTries {
			t.Fatalf("%d answers, want %d", len(s.all), shapeTries)
		}
		for range s.all {
			total := 0
			for _, n := range s.pick() {
				total += n
			}
			seen[total]++
		}
	}
	for total := range seen {
		// A look may be of one second, and the date in the answer of the one before.
		if least := 2*headLen + len(page) + 40; total < least || total > least+80 {
			t.Errorf("answers by their length: %v, want somewhat more than %d", seen, least)
		}
	}
}
