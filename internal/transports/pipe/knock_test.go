package pipe

import (
	"bytes"
	"testing"

	"github.com/godwit-vpn/godwit/internal/transport"
)

func FuzzReadKnock(f *testing.F) {
	f.Add(appendKnock(nil, []byte("knock")))
	f.Add([]byte{0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		knock, err := readKnock(bytes.NewReader(b))
		if err == nil && (len(knock) > transport.MaxKnock || !bytes.HasPrefix(b, appendKnock(nil, knock))) {
			t.Errorf("%d bytes were read as a knock of %d", len(b), len(knock))
		}
	})
}
