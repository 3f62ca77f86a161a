package chrome

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/net/http2/hpack"
)

// HPACK is how a browser writes the fields of its first request (RFC 7541): it decides how long they are.
type HPACK string

// The encoders there are.
const (
	// HPACKShortest is Chrome's, which is x/net's to the byte, as measured: Huffman where it is shorter, and every field that
	// is not in the static table indexed.
	HPACKShortest HPACK = "shortest"
	// HPACKFirefox has Huffman always, ":path" not indexed, and cookies of less than 20 bytes never.
	HPACKFirefox HPACK = "firefox"
)

func (h HPACK) encode(fields []hpack.HeaderField) []byte {
	if h == HPACKFirefox {
		return encodeFirefox(fields)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, f := range fields {
		must(enc.WriteField(f))
	}
	return block.Bytes()
}

// staticNames are the places of names in the static table, of those that a request may have (RFC 7541, appendix A).
var staticNames = map[string]uint64{
	":authority": 1, ":method": 2, ":path": 4, ":scheme": 6, "accept-charset": 15, "accept-encoding": 16, "accept-language": 17,
	"accept": 19, "cache-control": 24, "cookie": 32, "range": 50, "referer": 51, "user-agent": 58,
}

// staticFields are the places of whole fields.
var staticFields = map[hpack.HeaderField]uint64{
	{Name: ":method", Value: "GET"}: 2, {Name: ":scheme", Value: "https"}: 7, {Name: "accept-encoding", Value: "gzip, deflate"}: 16,
}

// shortCookie is how short a cookie is that Firefox takes for a secret that compression might tell.
const shortCookie = 20

func encodeFirefox(fields []hpack.HeaderField) (b []byte) {
	var table []string // the names in the dynamic table, the oldest first; its newest entry has the number 62
	for _, f := range fields {
		if i := staticFields[f]; i > 0 {
			b = appendNumber(b, 0x80, 7, i)
			continue
		}
		first, bits := byte(0x40), 6 // indexed
		switch {
		case f.Name == ":path":
			first, bits = 0, 4
		case f.Name == "cookie" && len(f.Value) < shortCookie:
			first, bits = 0x10, 4
		}
		name := staticNames[f.Name]
		if i := slices.Index(table, f.Name); i >= 0 { // Firefox takes the last that it finds
			name = uint64(61 + len(table) - i)
		}
		if bits == 6 {
			table = append(table, f.Name)
		}
		if b = appendNumber(b, first, bits, name); name == 0 {
			b = appendHuffman(b, f.Name)
		}
		b = appendHuffman(b, f.Value)
	}
	return b
}

// appendNumber appends a number whose first bits share a byte (RFC 7541, section 5.1).
func appendNumber(b []byte, first byte, bits int, n uint64) []byte {
	if most := uint64(1)<<bits - 1; n >= most {
		return binary.AppendUvarint(append(b, first|byte(most)), n-most)
	}
	return append(b, first|byte(n))
}

func appendHuffman(b []byte, s string) []byte {
	return hpack.AppendHuffmanString(appendNumber(b, 0x80, 7, hpack.HuffmanEncodeLength(s)), s)
}
