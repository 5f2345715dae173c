// Package disktest gives tests a small disk of their own, which they can fill, and have
// the kernel refuse to write to.
//
// It is imported by tests only.
package disktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a file system for one test.
type Disk struct {
	// Path is where it is mounted.
	Path string

	tb    testing.TB
	image string // of ext4
	n     int
}

// New mounts a file system with so many bytes and inodes until the test ends: ext4 if that
// can be had, else one in memory. Without the right to mount the test is skipped.
func New(tb testing.TB, bytes int64, inodes int) *Disk {
	tb.Helper()
	top := tb.TempDir()
	d := &Disk{Path: filepath.Join(top, "disk"), tb: tb}
	if err := os.Mkdir(d.Path, 0o755); err != nil {
		tb.Fatal(err)
	}
	ext := d.ext4(filepath.Join(top, "image"), bytes, inodes)
	if ext != nil {
		options := fmt.Sprintf("size=%d,nr_inodes=%d", bytes, inodes)
		if err := unix.Mount("tmpfs", d.Path, "tmpfs", 0, options); err != nil {
			tb.Skipf("no disk can be mounted: %v; %v", ext, err)
		}
		tb.Logf("the disk is in memory: %v", ext)
	}
	tb.Cleanup(func() { _ = unix.Unmount(d.Path, unix.MNT_DETACH) })
	if err := os.MkdirAll(filepath.Join(d.Path, ballast), 0o700); err != nil {
		tb.Fatal(err)
	}
	return d
}

func (d *Disk) ext4(image string, bytes int64, inodes int) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // its size is all that is written
	if err := f.Truncate(bytes); err != nil {
		return err
	}
	if err := d.run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", fmt.Sprint(inodes), image); err != nil {
		return err
	}
	d.image = image
	if err := d.mount(); err != nil {
		d.image = ""
		return err
	}
	return nil
}

func (d *Disk) mount() error { return d.run("mount", "-o", "loop,errors=remount-ro", d.image, d.Path) }

func (d *Disk) run(program string, args ...string) error {
	if out, err := exec.CommandContext(d.tb.Context(), program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// Free is how many bytes and inodes are free.
func (d *Disk) Free() (bytes, inodes int64) {
	d.tb.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.Path, &st); err != nil {
		d.tb.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Ffree)
}

// Size is how many bytes and inodes the disk has.
func (d *Disk) Size() (bytes, inodes int64) {
	d.tb.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.Path, &st); err != nil {
		d.tb.Fatal(err)
	}
	return int64(st.Blocks) * st.Bsize, int64(st.Files)
}

// ballast is the folder of what fills the disk. Its name begins as that of the folder
// that every ext4 has.
const ballast = "lost+found"

// Fill writes files until no more than so many bytes are free, and returns what removes
// them again.
func (d *Disk) Fill(leave int64) (empty func()) {
	d.tb.Helper()
	d.n++
	name := filepath.Join(d.Path, ballast, fmt.Sprintf("ballast-%d", d.n))
	f, err := os.Create(name)
	if err != nil {
		return func() {} // not an inode is free
	}
	defer f.Close() //nolint:errcheck // ballast
	block := make([]byte, 4096)
	for {
		if free, _ := d.Free(); free <= leave {
			break
		}
		if _, err := f.Write(block); err != nil {
			break
		}
	}
	return func() { _ = os.Remove(name) }
}

// FillInodes makes files until no more than so many inodes are free, and returns what
// removes them again.
func (d *Disk) FillInodes(leave int64) (empty func()) {
	d.tb.Helper()
	d.n++
	var made []string
	for i := 0; ; i++ {
		if _, free := d.Free(); free <= leave {
			break
		}
		name := filepath.Join(d.Path, ballast, fmt.Sprintf("inode-%d-%d", d.n, i))
		f, err := os.Create(name)
		if err != nil {
			break
		}
		_ = f.Close() // empty
		made = append(made, name)
	}
	return func() {
		for _, name := range made {
			_ = os.Remove(name)
		}
	}
}

// Break has the kernel find an error in the file system, so that it refuses all writing
// from then on. Without ext4 the test is skipped.
func (d *Disk) Break() {
	d.tb.Helper()
	if d.image == "" {
		d.tb.Skip("a file system in memory has no errors")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		d.tb.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// 36 35 98:0 / /mnt rw - ext4 /dev/loop0 rw: proc_pid_mountinfo(5)
		fields := strings.Fields(line)
		source := slices.Index(fields, "-") + 2
		if fields[4] != d.Path || source >= len(fields) {
			continue
		}
		trigger := filepath.Join("/sys/fs/ext4", filepath.Base(fields[source]), "trigger_fs_error")
		if err := os.WriteFile(trigger, []byte("1"), 0); err != nil {
			d.tb.Skipf("the kernel finds no errors when it is asked to: %v", err)
		}
		return
	}
	d.tb.Fatalf("%s is not mounted", d.Path)
}

// Repair makes a disk that was broken one that works. Nobody may have a file of it open.
func (d *Disk) Repair() {
	d.tb.Helper()
	if err := unix.Unmount(d.Path, 0); err != nil {
		d.tb.Fatal(err)
	}
	// e2fsck(8) ends with 1 when it has mended something.
	out, err := exec.CommandContext(d.tb.Context(), "e2fsck", "-fy", d.image).CombinedOutput()
	if failed, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || failed.ExitCode() != 1) {
		d.tb.Fatalf("e2fsck: %v: %s", err, out)
	}
	if err := d.mount(); err != nil {
		d.tb.Fatal(err)
	}
}
