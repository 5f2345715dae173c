package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrUnconditional says that an object store takes writes that it must refuse.
var ErrUnconditional = errors.New("the object store does not honour If-None-Match and If-Match on writes; two hubs could overwrite one another")

// Probe writes to the prefix and looks whether the object store keeps what [Objects]
// promises.
func Probe(ctx context.Context, objects Objects, prefix string) (err error) {
	key := prefix + reserved + "probe-" + NewID()
	body := func(text string) *io.SectionReader {
		return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
	}
	created, err := objects.Create(ctx, key, body("1"), manifestHeaders)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, objects.Delete(ctx, []string{key})) }()
	if !created {
		return fmt.Errorf("%s: %w", key, ErrConflict)
	}
	if created, err = objects.Create(ctx, key, body("2"), manifestHeaders); err != nil {
		return err
	} else if created {
		return fmt.Errorf("%w (If-None-Match: *)", ErrUnconditional)
	}
	first, err := objects.Stat(ctx, key)
	if err != nil {
		return err
	}
	second, err := objects.Replace(ctx, key, body("3"), first.Version, manifestHeaders)
	if err != nil {
		return err
	}
	_, err = objects.Replace(ctx, key, body("4"), first.Version, manifestHeaders)
	switch {
	case err == nil || first.Version == second:
		return fmt.Errorf("%w (If-Match)", ErrUnconditional)
	case !errors.Is(err, ErrConflict):
		return err
	}
	return nil
}
