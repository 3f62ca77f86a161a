package https

import "crypto/sha256"

func cookieFor([sha256.Size]byte) (string, int) { return "session", 480 }
