// Package xzrun compresses with the xz program of XZ Utils, which runs beside
// and is fed by a pipe: encoders of LZMA in Go take several times as long. No
// shell is involved, and nothing of the content is on a command line.
package xzrun

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"

	"freshet/internal/xz"
)

// Program is an xz program. It may be used by several goroutines at once; each
// block runs a process of its own.
type Program struct {
	path  string
	level Level
}

// Level is how hard to compress: what xz calls filter options. The dictionary
// bounds memory: the process takes 7.5 times as much with hash chains.
type Level struct {
	MaxDict uint32 // bytes; blocks that are smaller get a smaller dictionary
	Normal  bool   // weigh choices by what they cost, instead of taking the longest match
	Nice    int    // a match of this length ends the search
	Depth   int    // candidates that are looked at
}

// Balanced is the level for deltas: with content in good order, files are as
// small as with xz -8 on content in any order, in a third of the time.
func Balanced() Level { return Level{MaxDict: 4 << 20, Normal: true, Nice: 20, Depth: 5} }

// Find finds xz in PATH.
func Find(level Level) (*Program, error) {
	path, err := exec.LookPath("xz")
	if err != nil {
		return nil, fmt.Errorf("xz is needed to compress: install xz-utils: %w", err)
	}
	return &Program{path: path, level: level}, nil
}

// niceness is how much other processes on the machine go first.
const niceness = 10

// Method returns the method for a block of about so many bytes. The process
// ends when ctx does.
func (p *Program) Method(ctx context.Context, size uint64, x86 bool) xz.Method {
	dict := uint32(min(uint64(p.level.MaxDict), max(size, 1<<16)))
	dict, _ = xz.DictSize(dict)
	return xz.Method{X86: x86, DictSize: dict, New: func(out io.Writer) (io.WriteCloser, error) {
		args := []string{"--format=raw", "--stdout", "--quiet", "--threads=1"}
		if x86 {
			args = append(args, "--x86")
		}
		mode := "fast"
		if p.level.Normal {
			mode = "normal"
		}
		args = append(args, fmt.Sprintf("--lzma2=dict=%d,mf=hc4,mode=%s,nice=%d,depth=%d", dict, mode, p.level.Nice, p.level.Depth))
		return start(exec.CommandContext(ctx, p.path, args...), out)
	}}
}

// process is a running xz.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	buf    *bufio.Writer
	out    *remembering
	stderr bytes.Buffer
	ended  bool
	err    error // how it ended
}

func start(cmd *exec.Cmd, out io.Writer) (*process, error) {
	p := &process{cmd: cmd, out: &remembering{w: out}}
	cmd.Env = []string{"LC_ALL=C"} // and no XZ_DEFAULTS
	cmd.Stdout, cmd.Stderr = p.out, &limited{b: &p.stderr}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// Refused only where it does not matter.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, niceness)
	p.in, p.buf = in, bufio.NewWriterSize(in, 64<<10)
	return p, nil
}

// Write feeds the process. When it does not take more, how it ended says why.
func (p *process) Write(b []byte) (int, error) {
	n, err := p.buf.Write(b)
	if err != nil {
		return n, errors.Join(p.Close(), err)
	}
	return n, nil
}

// Close lets the process finish.
func (p *process) Close() error {
	if p.ended {
		return p.err
	}
	p.ended = true
	fed := errors.Join(p.buf.Flush(), p.in.Close())
	switch err := p.cmd.Wait(); {
	case p.out.err != nil: // of which xz has died
		p.err = p.out.err
	case err != nil:
		p.err = fmt.Errorf("run xz: %w: %s", err, bytes.TrimSpace(p.stderr.Bytes()))
	case fed != nil:
		p.err = fmt.Errorf("write to xz: %w", fed)
	}
	return p.err
}

// remembering keeps the error of a writer. It is read when the process has ended.
type remembering struct {
	w   io.Writer
	err error
}

func (r *remembering) Write(p []byte) (int, error) {
	n, err := r.w.Write(p)
	if err != nil {
		r.err = err
	}
	return n, err
}

// limited keeps the beginning of what is written.
type limited struct{ b *bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), 4096-min(4096, l.b.Len()))])
	return len(p), nil
}
