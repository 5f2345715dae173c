package demo

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// program returns a static Linux executable that prints text and exits. It
// needs no compiler and no library, so that the sample app runs on a runtime
// that is empty. The file format is ELF-64 (System V ABI, gABI chapter 4): a
// header, one program header, and the code with the text behind it.
func program(arch, text string) ([]byte, error) {
	var (
		machine uint16
		code    []byte
	)
	switch arch {
	case "x86_64":
		machine = 62 // EM_X86_64
		code = codeX8664(len(text))
	case "aarch64":
		machine = 183 // EM_AARCH64
		code = codeAArch64(len(text))
	default:
		return nil, fmt.Errorf("sample program: no machine code for architecture %q", arch)
	}
	const (
		base       = 0x400000
		headerSize = 64 + 56
	)
	size := uint64(headerSize + len(code) + len(text))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01") // 64 bit, little-endian, version 1
	b.Write(make([]byte, 9))             // System V ABI, padding
	put16(&b, 2, machine)                // ET_EXEC
	put32(&b, 1)                         // EV_CURRENT
	put64(&b, base+headerSize, 64, 0)    // entry, program headers, no sections
	put32(&b, 0)                         // flags
	put16(&b, 64, 56, 1, 0, 0, 0)        // sizes and counts of headers
	put32(&b, 1, 5)                      // PT_LOAD, readable and executable
	put64(&b, 0, base, base, size, size, 0x10000 /* align */)
	b.Write(code)
	b.WriteString(text)
	return b.Bytes(), nil
}

// codeX8664 is write(1, text, n); exit(0).
func codeX8664(n int) []byte {
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, SYS_write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip+16]: behind the code
		0xba, 0, 0, 0, 0, // mov edx, n
		0x0f, 0x05, // syscall
		0x31, 0xff, // xor edi, edi
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x0f, 0x05, // syscall
	}
	binary.LittleEndian.PutUint32(code[18:], uint32(n))
	return code
}

// codeAArch64 is write(1, text, n); exit(0).
func codeAArch64(n int) []byte {
	movz := func(reg, value uint32) uint32 { return 0xd2800000 | (value&0xffff)<<5 | reg }
	const svc = 0xd4000001
	var b bytes.Buffer
	put32(&b,
		movz(0, 1),
		0x10000001|7<<5, // adr x1, 28 bytes on: behind the code
		movz(2, uint32(n)),
		movz(8, 64), // SYS_write
		svc,
		movz(0, 0),
		movz(8, 93), // SYS_exit
		svc,
	)
	return b.Bytes()
}

func put16(b *bytes.Buffer, values ...uint16) { put(b, values) }
func put32(b *bytes.Buffer, values ...uint32) { put(b, values) }
func put64(b *bytes.Buffer, values ...uint64) { put(b, values) }

func put(b *bytes.Buffer, values any) {
	// Writing fixed-size integers to a buffer cannot fail.
	_ = binary.Write(b, binary.LittleEndian, values)
}
