// Command acceptance runs what an edge must be able to do, check by check, and
// prints a line for each:
//
//	number name ok|FAIL|skipped(reason) seconds
//
// docs/edge-acceptance.md says what each is. The arguments are the numbers of
// the checks to run; without any, all are. It ends with 1 if one failed. What
// was skipped, for want of a program for instance, is neither good nor bad.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var cfg config
	flag.BoolVar(&cfg.quick, "quick", false, "smaller numbers of everything: minutes instead of most of an hour")
	flag.StringVar(&cfg.suite, "suite", "", "folder of the public cache test suite; empty: it is fetched")
	flag.BoolVar(&cfg.verbose, "v", false, "also print what the tests log")
	flag.Parse()
	err := run(ctx, cfg, flag.Args(), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	quick, verbose bool
	suite          string
}

// run runs the checks with these numbers, all if there are none.
func run(ctx context.Context, cfg config, numbers []string, out io.Writer) error {
	list, err := choose(checks(), numbers)
	if err != nil {
		return err
	}
	p := &printer{out: out, list: list, known: make(map[proof]outcome)}
	for _, step := range plan(list) {
		outcomes, err := step(ctx, cfg)
		if err != nil {
			return err
		}
		maps.Copy(p.known, outcomes)
		p.print(cfg.verbose)
	}
	if p.failed > 0 {
		return fmt.Errorf("%d of %d checks failed", p.failed, len(list))
	}
	return nil
}

func choose(all []check, numbers []string) ([]check, error) {
	if len(numbers) == 0 {
		return all, nil
	}
	var list []check
	for _, text := range numbers {
		n, err := strconv.Atoi(text)
		i := slices.IndexFunc(all, func(c check) bool { return c.number == n })
		if err != nil || i < 0 {
			return nil, fmt.Errorf("there is no check %q", text)
		}
		list = append(list, all[i])
	}
	slices.SortFunc(list, func(a, b check) int { return a.number - b.number })
	return slices.CompactFunc(list, func(a, b check) bool { return a.number == b.number }), nil
}

// outcome is what became of a proof.
type outcome struct {
	failed  bool
	skipped string // the reason, if it was
	took    time.Duration
	said    string // to explain a failure
}

// step runs proofs that go together, and returns what became of each.
type step func(context.Context, config) (map[proof]outcome, error)

// plan groups the proofs: a package's tests are built once.
func plan(list []check) []step {
	var steps []step
	byPackage := make(map[string][]proof)
	var packages []string
	var rows []proof
	for _, c := range list {
		for _, p := range c.proofs {
			switch p.kind {
			case suite:
				steps = append(steps, runSuite)
			case bench:
				rows = append(rows, p)
			case test:
				if byPackage[p.where] == nil {
					packages = append(packages, p.where)
				}
				byPackage[p.where] = append(byPackage[p.where], p)
			}
		}
	}
	for _, where := range packages {
		steps = append(steps, func(ctx context.Context, cfg config) (map[proof]outcome, error) {
			return runTests(ctx, cfg, where, byPackage[where])
		})
	}
	if len(rows) > 0 {
		steps = append(steps, func(ctx context.Context, cfg config) (map[proof]outcome, error) { return runBench(ctx, cfg, rows) })
	}
	return steps
}

// printer prints the checks in their order, each as soon as all of it is known.
type printer struct {
	out    io.Writer
	list   []check
	known  map[proof]outcome
	next   int
	failed int
}

func (p *printer) print(verbose bool) {
	for ; p.next < len(p.list); p.next++ {
		c := p.list[p.next]
		var took time.Duration
		var failures, notes, skips []string
		for _, proved := range c.proofs {
			o, ok := p.known[proved]
			if !ok {
				return
			}
			took += o.took
			if o.failed {
				failures = append(failures, indent(o.said))
			} else if verbose && o.said != "" {
				notes = append(notes, indent(o.said))
			}
			if o.skipped != "" {
				skips = append(skips, o.skipped)
			}
		}
		if len(c.proofs) == 0 {
			failures = append(failures, indent("nothing shows it yet"))
		}
		verdict := "ok"
		switch {
		case len(failures) > 0:
			verdict = "FAIL"
			p.failed++
		case len(skips) > 0:
			verdict = "skipped(" + strings.Join(skips, "; ") + ")"
		}
		_, _ = fmt.Fprintf(p.out, "%2d %-58s %s %.1f\n", c.number, c.name, verdict, took.Seconds())
		for _, text := range append(failures, notes...) {
			_, _ = io.WriteString(p.out, text)
		}
	}
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		b.WriteString("     " + line)
	}
	return b.String()
}

var errNothingRan = errors.New("it did not run")
