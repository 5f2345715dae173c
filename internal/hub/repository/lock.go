package repository

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file that libostree locks too (ostree_repo_lock_push).
const lockName = ".lock"

const (
	lockTimeout = 300 * time.Second // libostree's lock-timeout-secs
	lockPoll    = 20 * time.Millisecond
)

// fileLock is a lock on the repository that excludes other processes. Closing
// the file, also by dying, frees it.
type fileLock struct{ file *os.File }

// lockShared takes the lock as one who adds objects and moves refs: beside
// others who do, but never beside one who deletes.
func lockShared(ctx context.Context, root *os.Root) (*fileLock, error) {
	return lock(ctx, root, unix.F_RDLCK)
}

// lockExclusive takes the lock as one who deletes: beside nobody.
func lockExclusive(ctx context.Context, root *os.Root) (*fileLock, error) {
	return lock(ctx, root, unix.F_WRLCK)
}

func lock(ctx context.Context, root *os.Root, kind int16) (*fileLock, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o660)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := waitLock(ctx, f, kind); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return &fileLock{file: f}, nil
}

// waitLock polls, as libostree does, because a blocking lock knows neither
// deadlines nor cancellation.
func waitLock(ctx context.Context, f *os.File, kind int16) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lockTimeout,
		fmt.Errorf("another program has held it for %v", lockTimeout))
	defer cancel()
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		lock := unix.Flock_t{Type: kind, Whence: unix.SEEK_SET}
		err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
		if err == nil || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// release frees the lock.
func (l *fileLock) release() error { return l.file.Close() }
