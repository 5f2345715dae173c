package tree

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"freshet/api/hubapi"
	"freshet/internal/rpmmd"
	"freshet/internal/unpack"
)

const rpmRemedy = "push the packages with it, or make the metadata anew with createrepo_c"

// repomd checks an rpm repository.
func (c *closure) repomd(ctx context.Context, name string) error {
	if err := c.detached(name, name+".asc", rpmSignRemedy); err != nil {
		return err
	}
	var repomd *rpmmd.Repomd
	err := c.read(name, func(r io.Reader) (err error) {
		repomd, err = rpmmd.ParseRepomd(r)
		return err
	})
	if errors.Is(err, rpmmd.ErrMalformed) {
		c.malformed(name, err, rpmRemedy)
		return nil
	}
	if err != nil {
		return err
	}
	top := path.Dir(path.Dir(name))
	primary := make(map[string][]string) // by type
	for _, d := range repomd.Data {
		if d.Base != "" {
			continue // somewhere else
		}
		target := path.Join(top, d.Href)
		if path.IsAbs(d.Href) || !fs.ValidPath(target) {
			c.wrong.add(hubapi.TreeProblem{File: d.Href, By: name, Reason: hubapi.TreeOutside}, rpmRemedy)
			continue
		}
		err := c.agree(name, target, d.Size, d.Checksum, rpmRemedy)
		if errors.Is(err, fs.ErrNotExist) {
			c.wrong.add(hubapi.TreeProblem{File: target, By: name, Reason: hubapi.TreeMissing}, rpmRemedy)
			continue
		}
		if err != nil {
			return err
		}
		primary[d.Type] = append(primary[d.Type], target)
	}
	// The second has the same content as the first, for clients that know it.
	for _, kind := range []string{"primary", "primary_zck"} {
		if len(primary[kind]) > 0 {
			return c.primary(ctx, top, primary[kind])
		}
	}
	return nil
}

// primary checks the packages of an rpm repository, whose hrefs are relative
// to top.
func (c *closure) primary(ctx context.Context, top string, names []string) error {
	for _, name := range names {
		err := c.index(ctx, name, rpmRemedy, func(r io.Reader) error {
			for p, err := range rpmmd.Packages(r) {
				if err != nil {
					return err
				}
				if p.Base != "" || strings.Contains(p.Href, "://") {
					continue // somewhere else
				}
				if path.IsAbs(p.Href) {
					c.wrong.add(hubapi.TreeProblem{File: p.Href, By: name, Reason: hubapi.TreeOutside}, rpmRemedy)
					continue
				}
				sum := ""
				if p.Checksum.Type == "sha256" {
					sum = p.Checksum.Value
				}
				c.wants(name, path.Join(top, p.Href), p.Size, sum, rpmRemedy)
			}
			return nil
		})
		if form, ok := errors.AsType[unpack.FormatError](err); ok {
			c.note("the packages that %s names are not checked, because %s; createrepo_c writes gz by default", name, form)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
