//go:build !linux

package push

import "io/fs"

func inodeOf(fs.FileInfo) (inode uint64, ctime int64) { return 0, 0 }
