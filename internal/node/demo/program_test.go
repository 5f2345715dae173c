package demo

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"freshet/internal/peertest"
)

func TestProgramRuns(t *testing.T) {
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if arch == "" || runtime.GOOS != "linux" {
		t.Skip("no sample program for this machine")
	}
	const text = "Hello, version 7\n"
	exe, err := program(arch, text)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(path, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := peertest.Command(t, path).CombinedOutput()
	if err != nil || string(out) != text {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestProgramIsELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"x86_64": elf.EM_X86_64, "aarch64": elf.EM_AARCH64} {
		exe, err := program(arch, "text")
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(exe))
		if err != nil {
			t.Fatalf("%s: %v", arch, err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC || len(f.Progs) != 1 {
			t.Errorf("%s: %+v", arch, f.FileHeader)
		}
	}
	if _, err := program("s390x", "text"); err == nil {
		t.Error("an unknown architecture was accepted")
	}
}
