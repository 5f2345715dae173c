// Package acceptance runs what a role must be able to do, check by check, and prints a
// line for each:
//
//	number name ok|FAIL|skipped(reason) seconds
//
// and below it what was measured. The commands beside it have the checks of a role.
package acceptance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Check is something that a role must be able to do.
type Check struct {
	Number int
	Name   string
	// Proofs show it, all of them together.
	Proofs []Proof
}

// Row is a check as it stands in a table of them.
func Row(number int, name string, proofs []Proof) Check { return Check{number, name, proofs} }

// Proof shows a part of a check.
type Proof struct {
	Step Step
	Name string
}

// Step runs proofs that go together. Steps are compared by ==: equal ones are run once,
// for all their proofs.
type Step interface {
	// Run runs the proofs of these names, and tells of each once what became of it. An
	// error says that none can be run.
	Run(ctx context.Context, o Options, names []string, tell func(name string, out Outcome)) error
}

// Options say how checks are run. The zero value runs them in full size.
type Options struct {
	// Quick is for smaller numbers of everything.
	Quick bool
	// Verbose has what the proofs said printed, too, when they hold.
	Verbose bool
	// Env is added to the environment in full size; what the environment says goes before.
	Env []string
}

// Outcome is what became of a proof.
type Outcome struct {
	Failed   bool
	Skipped  string // the reason, if it was
	Took     time.Duration
	Measured []string // lines for the reader, whatever came of it
	Said     string   // to explain a failure
}

// Main is the command of a role: the arguments are the numbers of the checks to run;
// without any, all are. It returns 1 if one failed. What was skipped, for want of a program
// for instance, is neither good nor bad. Checks is called when the flags are parsed.
func Main(o Options, checks func() []Check) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	flag.BoolVar(&o.Quick, "quick", false, "smaller numbers of everything: minutes instead of most of an hour")
	flag.BoolVar(&o.Verbose, "v", false, "also print what the tests log")
	flag.Parse()
	if err := Run(ctx, o, checks(), flag.Args(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "acceptance:", err)
		return 1
	}
	return 0
}

// Run runs the checks with these numbers, all if there are none.
func Run(ctx context.Context, o Options, all []Check, numbers []string, out io.Writer) error {
	list, err := choose(all, numbers)
	if err != nil {
		return err
	}
	p := &printer{out: out, verbose: o.Verbose, list: list, known: make(map[Proof]Outcome)}
	var steps []Step
	names := make(map[Step][]string)
	for _, c := range list {
		for _, proof := range c.Proofs {
			if !slices.Contains(steps, proof.Step) {
				steps = append(steps, proof.Step)
			}
			if !slices.Contains(names[proof.Step], proof.Name) {
				names[proof.Step] = append(names[proof.Step], proof.Name)
			}
		}
	}
	p.print() // a check that nothing shows
	for _, step := range steps {
		if err := step.Run(ctx, o, names[step], func(name string, out Outcome) {
			p.known[Proof{step, name}] = out
			p.print()
		}); err != nil {
			return err
		}
	}
	if p.failed > 0 || p.next < len(list) {
		return fmt.Errorf("%d of %d checks failed", p.failed+len(list)-p.next, len(list))
	}
	return nil
}

func choose(all []Check, numbers []string) ([]Check, error) {
	if len(numbers) == 0 {
		return all, nil
	}
	var list []Check
	for _, text := range numbers {
		n, err := strconv.Atoi(text)
		i := slices.IndexFunc(all, func(c Check) bool { return c.Number == n })
		if err != nil || i < 0 {
			return nil, fmt.Errorf("there is no check %q", text)
		}
		list = append(list, all[i])
	}
	slices.SortFunc(list, func(a, b Check) int { return a.Number - b.Number })
	return slices.CompactFunc(list, func(a, b Check) bool { return a.Number == b.Number }), nil
}

// printer prints the checks in their order, each as soon as all of it is known.
type printer struct {
	out     io.Writer
	verbose bool
	list    []Check
	known   map[Proof]Outcome
	next    int
	failed  int
}

func (p *printer) print() {
	for ; p.next < len(p.list); p.next++ {
		c := p.list[p.next]
		var took time.Duration
		var failures, notes, skips []string
		for _, proof := range c.Proofs {
			o, ok := p.known[proof]
			if !ok {
				return
			}
			took += o.Took
			for _, line := range o.Measured {
				notes = append(notes, indent(line))
			}
			if o.Failed {
				failures = append(failures, indent(o.Said))
			} else if p.verbose && o.Said != "" {
				notes = append(notes, indent(o.Said))
			}
			if o.Skipped != "" {
				skips = append(skips, o.Skipped)
			}
		}
		if len(c.Proofs) == 0 {
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
		_, _ = fmt.Fprintf(p.out, "%2d %-58s %s %.1f\n", c.Number, c.Name, verdict, took.Seconds())
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
