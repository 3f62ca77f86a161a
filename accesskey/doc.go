// Package accesskey reads and prints access keys: the text a person pastes or scans to use a gateway. A key says where
// the gateways are, which TLS key they hold, the secret that opens the door and where newer addresses are published;
// it holds no settings of the client.
//
// # Format 1
//
// A key is one line of ASCII. Line breaks and blanks below are only for the eye.
//
//	godwit://<payload>@<host>[:<port>]/?pin=<hash>[&next=<hash>]&dir=<key>[&sni=<name>]
//	        [&alt=<place>[,<place>…]][&at=<url>[,<url>…]][&<unknown>…]&c=<sum>[#<label>]
//
//	payload  34 characters, base64url without padding (RFC 4648 §5) of 25 bytes:
//
//	          0         1                 9                                25
//	         +---------+-----------------+----------------------------------+
//	         | version | key id (8)      | door secret (16)                 |
//	         +---------+-----------------+----------------------------------+
//
//	host     the first endpoint's DNS name in lower case, IPv4 address, or IPv6 address in brackets; its transport is
//	         https
//	port     decimal; left out if it is 443
//	pin      43 characters, base64url of 32 bytes: SHA-256 of the gateway's TLS SubjectPublicKeyInfo
//	next     the same of the key the gateway will use after that one
//	dir      43 characters, base64url of 32 bytes: the Ed25519 public key that signs the directory
//	sni      the server name to ask the first endpoint for; left out if it is host, or if host is an address and no
//	         name is to be sent
//	alt      further endpoints, best first; a place is [<transport>+]<host>[:<port>][/<name>][+<secret>+<pin>], where
//	         transport is left out if it is https, port if it is 443, and name, its server name, by the same rule as
//	         sni; a relay's place, and no other, ends in the secret of its own door for this key (22 characters,
//	         base64url of 16 bytes) and its own pin
//	at       https URLs where the signed directory may be found, made of letters, digits and -._~:/?=@[] alone
//	c        4 characters, lower-case base32 (RFC 4648 §6) of the first 20 bits of SHA-256 over everything before "&c="
//	label    what the person calls this key, UTF-8; every byte but letters, digits and - as %XX
//
// Before "#" a key is made of letters, digits and -._~:/?=@+,[]& alone and holds no escapes, so that any escape found
// there was added on the way and can be undone without doubt. Parameters come in this order when printed and in any
// order when read, save that c is the last one; what follows its four characters, but for a label, is not part of the
// key. A parameter with a name not listed here is ignored, covered by the sum, and printed again. A known one given
// twice is refused.
//
// A later format may change everything except this envelope: the scheme, the version byte that begins the payload, and
// c, last and by the same rule. So a program can always tell a newer key (ErrTooNew) from a damaged one (ErrMangled).
//
// # Reading
//
// Keys travel through chat programs, mail and paper, so Parse finds a key inside a message and undoes what those do:
// wrapped lines and quote marks, blanks and invisible characters, HTML and percent escapes, smart dashes, full-width
// forms, brackets, punctuation and markdown around it. It never guesses: whatever was undone, the sum must match.
//
// # Secrets
//
// Text, and Secret.Reveal, are the only ways to get the secret out. Printing a Key in any fmt verb, logging it, or
// wrapping it in a struct shows its id; marshalling it fails, so that no settings file or API answer holds one unseen.
package accesskey
