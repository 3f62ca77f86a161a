package capture

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestPcap(t *testing.T) {
	t.Parallel()
	frames := []Frame{
		{At: 0, Data: []byte("first"), Length: 5},
		{At: 1500 * time.Millisecond, Data: []byte("second one"), Length: 10},
		{At: 2 * time.Second, Data: []byte("third one"), Length: 1514},
	}
	var b bytes.Buffer
	if err := WritePcap(&b, frames, 2, 4); err != nil {
		t.Fatal(err)
	}
	frames[2].Data = frames[2].Data[:4]
	file := b.Bytes()
	got, err := ReadPcap(bytes.NewReader(file))
	if err != nil || !reflect.DeepEqual(got, frames) {
		t.Errorf("read back %+v, %v", got, err)
	}
	for _, n := range []int{0, 23, 30, len(file) - 1} {
		if _, err := ReadPcap(bytes.NewReader(file[:n])); err == nil {
			t.Errorf("a file of %d bytes was read", n)
		}
	}
	file[20] = 101
	if _, err := ReadPcap(bytes.NewReader(file)); err == nil {
		t.Error("raw IP was read as Ethernet")
	}
}

func FuzzReadPcap(f *testing.F) {
	var b bytes.Buffer
	WritePcap(&b, []Frame{{Data: []byte("data"), Length: 4}}, 0, 0)
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		frames, err := ReadPcap(bytes.NewReader(file))
		if err == nil && len(frames)*16 > len(file) {
			t.Errorf("%d frames in %d bytes", len(frames), len(file))
		}
	})
}
