package accesskey

import "errors"

// What can be wrong with a key. Every error of Parse and Validate is a *ParseError that matches one of them.
var (
	// ErrTruncated: a part is missing, most often the end.
	ErrTruncated = errors.New("the access key is cut off: copy all of it")
	// ErrMangled: the parts are there, but the sum says that some character is another one.
	ErrMangled = errors.New("the access key was changed on the way")
	// ErrTooNew: the key is whole and of a format that this program does not know.
	ErrTooNew = errors.New("the access key is made for a newer Godwit: update")
	// ErrNotKey: no access key is in the text.
	ErrNotKey = errors.New("this is not an access key")
	// ErrInvalid: the key is as it was made, and was made against the rules of its format.
	ErrInvalid = errors.New("the access key is not well made")
)

// ParseError says what is wrong with a key. None of its texts holds the secret or the payload.
type ParseError struct {
	// Kind is one of the sentinels above.
	Kind error
	// Part names the part of the key, or is empty: "payload", "host", "pin", "alt", …
	Part string
	// Reason is what is wrong with it, or empty.
	Reason string
	// Hint is what the person can do, or empty if Kind says so already.
	Hint string
}

func (e *ParseError) Error() string {
	s := e.Kind.Error()
	switch {
	case e.Part != "" && e.Reason != "":
		s += " (" + e.Part + ": " + e.Reason + ")"
	case e.Reason != "":
		s += " (" + e.Reason + ")"
	case e.Part != "":
		s += " (" + e.Part + ")"
	}
	return s
}

func (e *ParseError) Unwrap() error { return e.Kind }

const (
	hintWhole    = "copy everything from godwit:// to the end, or ask for the key as a file or QR picture"
	hintResend   = "ask for the key again, as a file or QR picture: some programs change long links"
	hintAskMaker = "ask whoever made the key for another one"
	hintFind     = "an access key begins with godwit://"
)

func truncated(part, reason string) *ParseError {
	return &ParseError{Kind: ErrTruncated, Part: part, Reason: reason, Hint: hintWhole}
}

func mangled(part, reason string) *ParseError {
	return &ParseError{Kind: ErrMangled, Part: part, Reason: reason, Hint: hintResend}
}

func notKey(reason string) *ParseError {
	return &ParseError{Kind: ErrNotKey, Reason: reason, Hint: hintFind}
}

func invalid(part, reason string) *ParseError {
	return &ParseError{Kind: ErrInvalid, Part: part, Reason: reason, Hint: hintAskMaker}
}
