package push

import (
	"io/fs"
	"syscall"
)

// inodeOf returns the inode number and the time of the last change of the
// inode in nanoseconds since 1970, which no program can set back.
func inodeOf(info fs.FileInfo) (inode uint64, ctime int64) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Ino, s.Ctim.Nano()
	}
	return 0, 0
}
