package clienthello

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// JA4 is the hello's fingerprint as FoxIO defines it (JA4 technical details, 2023), over TCP or in DTLS.
func (h *Hello) JA4() string {
	carrier, version, latest := "t", "00", h.Version
	if h.Version >= 0xfe00 { // DTLS counts down, from 0xfeff, which is 1.0; there is no 1.1
		carrier = "d"
		if versions := noGREASE(h.List(SupportedVersions)); len(versions) > 0 {
			latest = slices.Min(versions)
		}
		switch latest {
		case 0xfeff:
			version = "d1"
		case 0xfefd:
			version = "d2"
		case 0xfefc:
			version = "d3"
		}
	} else {
		if versions := noGREASE(h.List(SupportedVersions)); len(versions) > 0 {
			latest = slices.Max(versions)
		}
		if latest >= 0x0301 && latest <= 0x0304 {
			version = fmt.Sprintf("1%d", latest-0x0301)
		}
	}
	sni := "i"
	if _, ok := h.Extension(ServerName); ok {
		sni = "d"
	}
	alpn := "00"
	if p := h.Protocols(ALPN); len(p) > 0 && p[0] != "" {
		alpn = p[0][:1] + p[0][len(p[0])-1:]
	}
	var exts []uint16
	for _, e := range h.Extensions {
		exts = append(exts, e.Type)
	}
	exts = noGREASE(exts)
	ciphers := noGREASE(h.Ciphers)
	a := fmt.Sprintf("%s%s%s%02d%02d%s", carrier, version, sni, min(99, len(ciphers)), min(99, len(exts)), alpn)
	slices.Sort(ciphers)
	hashed := slices.DeleteFunc(exts, func(v uint16) bool { return v == ServerName || v == ALPN })
	slices.Sort(hashed)
	c := commas(hashed) + "_" + commas(noGREASE(h.List(SignatureAlgorithms)))
	return a + "_" + hash12(commas(ciphers)) + "_" + hash12(c)
}

// JA3 is the hello's fingerprint as its authors define it (salesforce/ja3, 2017): the order of everything counts.
func (h *Hello) JA3() string {
	var exts []uint16
	for _, e := range h.Extensions {
		exts = append(exts, e.Type)
	}
	formats, _ := h.Extension(pointFormats)
	r := reader{b: formats}
	var points []string
	for _, b := range r.sub(1).b {
		points = append(points, strconv.Itoa(int(b)))
	}
	sum := md5.Sum([]byte(strings.Join([]string{strconv.Itoa(int(h.Version)), dashes(h.Ciphers), dashes(exts),
		dashes(h.List(SupportedGroups)), strings.Join(points, "-")}, ",")))
	return hex.EncodeToString(sum[:])
}

const pointFormats = 11

func dashes(values []uint16) string {
	var all []string
	for _, v := range noGREASE(values) {
		all = append(all, strconv.Itoa(int(v)))
	}
	return strings.Join(all, "-")
}

func noGREASE(values []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(values), IsGREASE)
}

func hash12(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:12]
}

func commas(values []uint16) string {
	var all []string
	for _, v := range values {
		all = append(all, fmt.Sprintf("%04x", v))
	}
	return strings.Join(all, ",")
}
