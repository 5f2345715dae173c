package repository

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"golang.org/x/sys/unix"

	"freshet/internal/sign"
	"freshet/internal/store"
)

// mayBeOneOf tells whether an error may be the fault of one of several requests,
// and not of the machine, the key or whoever cancelled.
func (p *publication) mayBeOneOf(err error) bool {
	if context.Cause(p.ctx) != nil || errors.Is(err, store.ErrBroken) || errors.Is(err, ErrNotLeading) {
		return false
	}
	if _, ok := errors.AsType[*sign.KeyError](err); ok {
		return false
	}
	for _, machine := range [...]error{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, machine) {
			return false
		}
	}
	return true
}

// singly publishes what could not be published together: one request after the
// other, so that only those fail that are at fault. Everything of the attempt
// was taken back.
func (p *publication) singly(requests []PublishRequest, cause error, commit func(Result) error) (Result, error) {
	p.log.printf("  they cannot be published together: %v", cause)
	all := Result{Refs: map[string]map[string]string{}, Failed: p.result.Failed}
	var failures []error
	for i := range requests {
		req := &requests[i]
		if all.Failed[req.Key] != nil {
			continue
		}
		one := p.r.begin(p.ctx, p.log)
		one.gone = p.gone
		err := one.planAll(requests[i : i+1])
		if err != nil {
			one.revert()
		} else if err = one.publish(); err == nil {
			p.log.printf("Published %s after %s", req.Key, p.log.total())
			err = one.tell(commit)
			all.add(&one.result)
			if err != nil {
				return all, err
			}
			continue
		}
		if !p.mayBeOneOf(err) {
			if len(all.Keys) == 0 {
				return all, err
			}
			for _, req := range requests[i:] {
				if all.Failed[req.Key] == nil {
					all.Failed[req.Key] = err
				}
			}
			return all, nil
		}
		p.log.printf("  %s cannot be published: %v", req.Key, err)
		all.Failed[req.Key] = err
		failures = append(failures, fmt.Errorf("%s: %w", req.Key, err))
	}
	if len(all.Keys) == 0 {
		return all, errors.Join(failures...)
	}
	return all, nil
}

// add takes in what a further publish did.
func (r *Result) add(one *Result) {
	r.Keys = append(r.Keys, one.Keys...)
	maps.Copy(r.Refs, one.Refs)
	r.Removed = append(r.Removed, one.Removed...)
	r.Infos = append(r.Infos, one.Infos...)
	r.Changed = append(r.Changed, one.Changed...)
	if r.Before == nil {
		r.Before = map[string]string{}
	}
	maps.Copy(r.Before, one.Before)
	r.Serial, r.Summary = max(r.Serial, one.Serial), one.Summary
	r.Stats.NewObjects += one.Stats.NewObjects
	r.Stats.ReusedObjects += one.Stats.ReusedObjects
	r.Stats.Bytes += one.Stats.Bytes
	r.Stats.Signatures += one.Stats.Signatures
}
