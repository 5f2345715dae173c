package diskcache

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// ID names an entry: a digest of everything that tells it from others.
type ID [16]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Meta is the response an entry was made from. It is not changed after the
// entry exists.
type Meta struct {
	// Key is the identity of the resource, for people and for rebuilding what
	// the ID was made from.
	Key string `json:"key"`
	// Site and Path are the parts of Key that purges go by.
	Site string `json:"site"`
	URI  string `json:"uri"`
	Path string `json:"path"`
	// Vary are the names of the request fields that selected this response,
	// VaryKey their values.
	Vary    []string    `json:"vary,omitempty"`
	VaryKey string      `json:"varyKey,omitempty"`
	Status  int         `json:"status"`
	Header  http.Header `json:"header"`
}

// State is what changes during the life of an entry.
type State struct {
	// Validated is when the response arrived, or the last 304 that confirmed
	// it.
	Validated time.Time
	// InitialAge is how old it was then, Lifetime how long from its birth it
	// is fresh by what the origin said. All are kept in whole seconds.
	InitialAge, Lifetime time.Duration
	// Revalidate and OnError are how long after Lifetime it may be used stale,
	// in whole seconds.
	Revalidate, OnError time.Duration
	// Flags are the edge's; their meaning is not known here.
	Flags uint32
}

// Age is the age at the given time.
func (s State) Age(now time.Time) time.Duration {
	return s.InitialAge + max(0, now.Sub(s.Validated))
}

// The fixed head. All numbers are little-endian.
//
//	 0  8  magic
//	 8  4  length of the JSON that follows the head
//	12  4  CRC-32C of that JSON
//	16  8  length of the body
//	24  4  CRC-32C of the body
//	28  4  CRC-32C of bytes 0–27
//	32 32  state: validated (Unix ns), initial age, lifetime, stale while
//	       revalidate, stale if error (s), flags, CRC-32C of these 28 bytes
const (
	headSize  = 64
	stateOff  = 32
	stateSize = 32
	magic     = "FRSHTEC1"
	// maxMeta bounds the JSON: header fields are at most some 10 kB.
	maxMeta = 1 << 20
)

type head struct {
	metaLen  uint32
	metaCRC  uint32
	bodyLen  int64
	bodyCRC  uint32
	state    State
	stateBad bool
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func (h head) encode() []byte {
	b := make([]byte, 0, headSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, h.metaLen)
	b = binary.LittleEndian.AppendUint32(b, h.metaCRC)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.bodyLen))
	b = binary.LittleEndian.AppendUint32(b, h.bodyCRC)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	return append(b, h.state.encode()...)
}

func (s State) encode() []byte {
	b := make([]byte, 0, stateSize)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.Validated.UnixNano()))
	b = binary.LittleEndian.AppendUint32(b, seconds(s.InitialAge))
	b = binary.LittleEndian.AppendUint32(b, seconds(s.Lifetime))
	b = binary.LittleEndian.AppendUint32(b, seconds(s.Revalidate))
	b = binary.LittleEndian.AppendUint32(b, seconds(s.OnError))
	b = binary.LittleEndian.AppendUint32(b, s.Flags)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

func seconds(d time.Duration) uint32 {
	return uint32(min(max(0, d/time.Second), 1<<32-1))
}

// decodeHead reads a head. A damaged state is not an error: the body is good,
// but nothing is known of its freshness.
func decodeHead(b []byte) (head, error) {
	if len(b) < headSize || string(b[:8]) != magic {
		return head{}, errors.New("not an entry of this version")
	}
	le := binary.LittleEndian
	if crc32.Checksum(b[:28], castagnoli()) != le.Uint32(b[28:]) {
		return head{}, errors.New("damaged head")
	}
	h := head{
		metaLen: le.Uint32(b[8:]), metaCRC: le.Uint32(b[12:]),
		bodyLen: int64(le.Uint64(b[16:])), bodyCRC: le.Uint32(b[24:]),
	}
	if h.metaLen > maxMeta || h.bodyLen < 0 || h.bodyLen > 1<<50 {
		return head{}, errors.New("impossible lengths")
	}
	s := b[stateOff:headSize]
	if crc32.Checksum(s[:28], castagnoli()) != le.Uint32(s[28:]) {
		h.stateBad = true
		return h, nil
	}
	h.state = State{
		Validated:  time.Unix(0, int64(le.Uint64(s))),
		InitialAge: time.Duration(le.Uint32(s[8:])) * time.Second,
		Lifetime:   time.Duration(le.Uint32(s[12:])) * time.Second,
		Revalidate: time.Duration(le.Uint32(s[16:])) * time.Second,
		OnError:    time.Duration(le.Uint32(s[20:])) * time.Second,
		Flags:      le.Uint32(s[24:]),
	}
	return h, nil
}

// readEntry reads head and meta of a file and checks them and the file's
// length. The body is not read.
func readEntry(f *os.File) (head, *Meta, error) {
	buf := make([]byte, 4096)
	n, err := f.ReadAt(buf, 0)
	if n < headSize {
		return head{}, nil, fmt.Errorf("read head: %w", err)
	}
	h, err := decodeHead(buf[:n])
	if err != nil {
		return head{}, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return head{}, nil, err
	}
	if want := headSize + int64(h.metaLen) + h.bodyLen; info.Size() != want {
		return head{}, nil, fmt.Errorf("%d bytes, want %d", info.Size(), want)
	}
	raw := buf[headSize:n]
	if int(h.metaLen) > len(raw) {
		raw = make([]byte, h.metaLen)
		if _, err := f.ReadAt(raw, headSize); err != nil {
			return head{}, nil, fmt.Errorf("read fields: %w", err)
		}
	}
	raw = raw[:h.metaLen]
	if crc32.Checksum(raw, castagnoli()) != h.metaCRC {
		return head{}, nil, errors.New("damaged fields")
	}
	meta := new(Meta)
	if err := json.Unmarshal(raw, meta); err != nil {
		return head{}, nil, fmt.Errorf("fields: %w", err)
	}
	return h, meta, nil
}

func fileName(id ID, seq uint64) string { return fmt.Sprintf("%s-%016x", id, seq) }

func parseName(name string) (id ID, seq uint64, ok bool) {
	idHex, seqHex, ok := strings.Cut(name, "-")
	if !ok || len(idHex) != 2*len(id) || len(seqHex) != 16 {
		return ID{}, 0, false
	}
	if _, err := hex.Decode(id[:], []byte(idHex)); err != nil {
		return ID{}, 0, false
	}
	seq, err := strconv.ParseUint(seqHex, 16, 64)
	return id, seq, err == nil
}
