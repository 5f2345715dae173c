package diskcache

import (
	"context"
	"io/fs"
	"syscall"
	"testing"

	"freshet/internal/edge/diskcache/index"
)

// quietTB lets helpers be used inside rapid, which has its own T.
type quietTB struct{ testing.TB }

func (*quietTB) Helper()                  {}
func (*quietTB) Context() context.Context { return context.Background() }
func (*quietTB) Fatal(args ...any)        { panic(args) }

func itemFor(r record) index.Item { return index.Item{Len: uint16((r.length + unit - 1) / unit)} }

// ownerOf is the user a file belongs to.
func ownerOf(info fs.FileInfo) uint32 { return info.Sys().(*syscall.Stat_t).Uid }
