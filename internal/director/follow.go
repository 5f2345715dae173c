package director

import (
	"context"
	"log/slog"
	"time"

	"freshet/internal/director/share"
	"freshet/internal/inventory"
	"freshet/internal/role"
)

// firstTake bounds how long a director that knows nothing waits for what another one knows
// before it answers.
const firstTake = time.Minute

// openFollower makes ready what follows the inventory of another director, if the
// configuration says so. A director that knows nothing yet begins with what the other knows.
func (r *redirector) openFollower(ctx context.Context, env role.Env) error {
	if r.cfg.Inventory == "" {
		return nil
	}
	options := share.Options{
		From: r.cfg.Inventory, Token: r.cfg.InventoryToken, Inventory: r.inventory, HTTP: env.HTTP, Log: env.Log,
	}
	if !r.cfg.InventoryOnce {
		options.Metrics = env.Metrics
	}
	f, err := share.NewFollower(options)
	if err != nil {
		return err
	}
	if len(r.inventory.Projects()) == 0 {
		first, cancel := context.WithTimeout(ctx, firstTake)
		defer cancel()
		if err := f.Once(first); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "no inventory to begin with: clients are sent to origins until there is one", slog.Any("error", err))
		}
	}
	if !r.cfg.InventoryOnce {
		r.follower = f
	}
	return nil
}

// taken yields when the inventory of another director was taken over as a whole, which is
// written down at once.
func (r *redirector) taken() <-chan struct{} {
	if r.follower == nil {
		return nil
	}
	return r.follower.Whole()
}

// doubt says that a mirror seems not to have a file.
func (r *redirector) doubt(project string, h inventory.Holder, path string) {
	if r.follower != nil {
		r.follower.Doubt(project, h, path)
		return
	}
	r.inventory.Project(project).Doubt(h, path)
}
