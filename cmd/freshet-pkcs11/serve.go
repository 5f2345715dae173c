//go:build cgo

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"freshet/internal/sign/token"
)

// serve answers the requests of a hub, in their order, until they end.
func serve(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, token.MaxLine)
	answers := json.NewEncoder(out)
	var key *tokenKey
	defer func() {
		if key != nil {
			key.close()
		}
	}()
	for lines.Scan() {
		var request token.Request
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			return fmt.Errorf("request: %w", err)
		}
		answer := token.Response{ID: request.ID}
		var err error
		switch {
		case request.Open != nil && key == nil:
			if key, err = open(request.Open); err == nil {
				answer.Opened = &token.Opened{PublicKey: key.public}
			}
		case request.Sign != nil && key != nil:
			answer.Signature, err = key.sign(request.Sign.Digest)
		default:
			err = errors.New("the first request, and only that, opens a key")
		}
		if err != nil {
			answer.Error = failureOf(err)
		}
		if err := answers.Encode(&answer); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
	}
	return lines.Err()
}

// failureOf sorts an error.
func failureOf(err error) *token.Failure {
	failure, ok := errors.AsType[*token.Failure](err)
	if ok {
		return failure
	}
	failure = &token.Failure{Kind: token.FailedOther, Text: err.Error()}
	if code, ok := errors.AsType[pkcs11.Error](err); ok {
		switch code {
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED:
			failure.Kind = token.FailedPIN
		case pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_SLOT_ID_INVALID:
			failure.Kind = token.FailedAbsent
		}
	}
	return failure
}

func absent(format string, args ...any) error {
	return &token.Failure{Kind: token.FailedAbsent, Text: fmt.Sprintf(format, args...)}
}
