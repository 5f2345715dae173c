package token

// Protocol is the version of what hub and helper say to each other; see
// docs/formats/pkcs11-helper.md.
const Protocol = 1

// MaxLine bounds, in bytes, a line between hub and helper.
const MaxLine = 64 << 10

// Request is a line to the helper: Open first and once, then any number of
// Sign, which need not wait for answers.
type Request struct {
	// ID is repeated in the answer.
	ID   int64        `json:"id"`
	Open *OpenRequest `json:"open,omitempty"`
	Sign *SignRequest `json:"sign,omitempty"`
}

// OpenRequest has the helper find a key and log in.
type OpenRequest struct {
	Protocol int    `json:"protocol"`
	URI      string `json:"uri"`
	// PIN is the user's; nil when there is none, so that a reader with a key pad
	// asks for it.
	PIN []byte `json:"pin,omitempty"`
}

// SignRequest has the key sign a SHA-512 digest.
type SignRequest struct {
	Digest []byte `json:"digest"`
}

// Response is a line from the helper. One of the others is set beside ID.
type Response struct {
	ID int64 `json:"id"`
	// Opened answers Open.
	Opened *Opened `json:"opened,omitempty"`
	// Signature answers Sign, in the form of crypto.Signer.
	Signature []byte   `json:"signature,omitempty"`
	Error     *Failure `json:"error,omitempty"`
}

// Opened says which key was found.
type Opened struct {
	// PublicKey is its public part as SubjectPublicKeyInfo (RFC 5280 §4.1.2.7);
	// empty when the token does not tell.
	PublicKey []byte `json:"public-key,omitempty"`
}

// Failure is why the helper did not do what it was asked.
type Failure struct {
	Kind FailureKind `json:"kind"`
	// Text is for people.
	Text string `json:"text"`
}

func (f *Failure) Error() string { return f.Text }

// FailureKind sorts failures by what can be done.
type FailureKind string

// The kinds of failures.
const (
	// FailedPIN is a PIN that the token refuses: every further try could lock it.
	FailedPIN FailureKind = "pin"
	// FailedAbsent is a library, token or key that is not there.
	FailedAbsent FailureKind = "absent"
	// FailedOther is everything else.
	FailedOther FailureKind = "failed"
)
