package decoy

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
)

// Both ends derive the cookie from the gateway's pin, so these lists and CookieFor are a part of the protocol: a change
// to them locks out every older client. A test holds what they give.
var (
	cookieNames = []string{
		"session", "sid", "sess", "session_id", "sessionid", "session-id", "SESSION", "SID", "SESSIONID", "auth", "auth_token",
		"authToken", "auth-session", "token", "session_token", "session-token", "sessionToken", "appSession", "app_session",
		"web_session", "user_session", "usersession", "_session", "_session_id", "_sid", "login", "user", "visit", "state",
		"ssid", "sess_id", "site_session", "__Host-session", "__Host-sid", "__Secure-session", "__Secure-sid", "s", "data",
	}
	cookieForms = []string{
		"%_session", "%_session", "_%_session", "_%_session", "%-session", "%_sess", "%sid", "%_sid", "%.sid", "%Session",
		"%_auth", "%_token", "%-auth", "_%_sess", "__Host-%", "__Secure-%_session", "%", "%_user", "%_web", "_%",
	}
	cookieHeads = strings.Fields("al an ar as be bi bo br ca ce ch ci cl co da de di do el en fa fi fo ga ge gr ha he ho in ja jo ka ki la le li lo " +
		"ma me mi mo na ne ni no ol or pa pe pi po ra re ri ro sa se si so st ta te ti to tr va ve vi vo wa we wi ze zo")
	cookieTails = strings.Fields("ba bby ck co da de do fy ga go ka kit la lab li ly ma mo na ne no pad pi pix ply po ra re ro rt sy ta ti to va vo x za " +
		"base box desk hub line app net shop web site press")
)

// The length of a cookie's value is a multiple of four, as base64 has it, within what web frameworks keep in cookies.
const (
	MinCookieLen = 476
	MaxCookieLen = 556
)

// CookieFor derives the name of the session cookie of the gateway whose TLS key has this pin, and the length of its
// value. The names are such as frameworks and sites use; some have a prefix, as sites give theirs.
func CookieFor(pinHash [32]byte) (name string, valueLen int) {
	sum := sha256.Sum256(append([]byte("session cookie v1\x00"), pinHash[:]...))
	draw := func(at, n int) int { return int(binary.BigEndian.Uint32(sum[4*at:]) % uint32(n)) }
	name = cookieNames[draw(1, len(cookieNames))]
	if draw(0, 2) == 0 {
		prefix := cookieHeads[draw(2, len(cookieHeads))] + cookieTails[draw(3, len(cookieTails))]
		name = strings.Replace(cookieForms[draw(4, len(cookieForms))], "%", prefix, 1)
	}
	return name, MinCookieLen + 4*draw(5, (MaxCookieLen-MinCookieLen)/4+1)
}
