package agent

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// maxLine is the longest line of Assuan, with its end.
	maxLine = 1002
	// maxAnswer bounds the data and the number of lines of an answer: the
	// signature of an RSA key of 16,384 bits has 2 KiB.
	maxAnswer = 16 << 10
	maxLines  = 1000
)

var errProtocol = errors.New("gpg-agent speaks another protocol")

// answer reads lines up to OK or ERR and returns their data. A question of the
// agent is declined.
func (c *connection) answer() (data []byte, err error) {
	for range maxLines {
		line, err := c.lines.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("gpg-agent went away: %w", err)
		}
		line = line[:len(line)-1]
		command, rest, _ := bytes.Cut(line, []byte(" "))
		switch string(command) {
		case "OK":
			return data, nil
		case "ERR":
			return nil, refusal(string(rest))
		case "D":
			if data, err = unescape(data, rest); err != nil {
				return nil, err
			}
		case "INQUIRE":
			if _, err := c.Write([]byte("CAN\n")); err != nil {
				return nil, fmt.Errorf("gpg-agent went away: %w", err)
			}
		case "S", "#", "":
		default:
			if line[0] != '#' {
				return nil, fmt.Errorf("%w: line %.40q", errProtocol, line)
			}
		}
	}
	return nil, fmt.Errorf("%w: an answer of more than %d lines", errProtocol, maxLines)
}

// refusal reads "CODE text". The lower 16 bits of the code are the reason, the
// upper ones say which library has it.
func refusal(text string) error {
	number, text, _ := strings.Cut(text, " ")
	code, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return fmt.Errorf("%w: error %.40q", errProtocol, number)
	}
	if source := strings.LastIndex(text, " <"); source > 0 {
		text = text[:source]
	}
	return &Error{Code: int(code & 0xffff), Text: text}
}

// unescape appends the data of a line, in which %XX stands for some bytes.
func unescape(data, line []byte) ([]byte, error) {
	for i := 0; i < len(line); i++ {
		b := line[i]
		if b == '%' {
			if i+2 >= len(line) {
				return nil, fmt.Errorf("%w: data %.40q", errProtocol, line)
			}
			n, err := strconv.ParseUint(string(line[i+1:i+3]), 16, 8)
			if err != nil {
				return nil, fmt.Errorf("%w: data %.40q", errProtocol, line)
			}
			b, i = byte(n), i+2
		}
		data = append(data, b)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("%w: an answer of more than %d bytes", errProtocol, maxAnswer)
	}
	return data, nil
}
