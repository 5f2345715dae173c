package push

import "context"

type buildPush struct {
	cfg    Config
	result *Result
}

func (p *buildPush) run(ctx context.Context) error { return nil }
