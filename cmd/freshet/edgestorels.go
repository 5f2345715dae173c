package main

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/spf13/cobra"

	"freshet/internal/edge"
)

// sortedLines is how many lines a sorted list has if nothing else is said.
const sortedLines = 1000

func newStoreLsCommand() *cobra.Command {
	var (
		flags  storeFlags
		site   string
		order  string
		limit  int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List what a store holds",
		Long: `Ls prints a line for each stored answer whose URI begins with PREFIX: the size of
its body, its age, for how long it is still fresh, its site and its URI. In the
place of a time stands "stale", "purged" if it is asked for again before its next use
because something told the edge to, or "unknown" if its state was lost.
Remaining times are those that hold without a hub's events.

Without --sort, answers come in the order of the disk and are printed as they are
read. With it, the largest, the oldest or the first by site and URI come first,
and only the lines that are printed are kept in memory.`,
		Example: `  freshet edge store ls --store /var/cache/freshet /repo/objects/
  freshet edge store ls --store /var/cache/freshet --sort size --limit 20
  freshet edge store ls -c /etc/freshet.toml --site stable --json | jq -r 'select(.state == "purged").uri'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			compare, known := answerOrders()[order]
			switch {
			case !known:
				return usageError(cmd, "--sort: want size, age or key, got %q", order)
			case limit < 0:
				return usageError(cmd, "--limit: must not be negative")
			}
			if order != "" && limit == 0 {
				limit = sortedLines
			}
			return flags.with(cmd, "see what it does with freshet edge top", func(store *edge.Inspection) error {
				answers := store.Answers(cmd.Context(), edge.Selected{Site: site, Prefixes: args})
				return listAnswers(cmd, answers, compare, limit, asJSON)
			})
		},
	}
	flags.register(cmd)
	f := cmd.Flags()
	f.StringVar(&site, "site", "", `site by its name, "default" for the one without (default: all)`)
	f.StringVar(&order, "sort", "", "size, age or key (default: in the order of the disk)")
	f.IntVar(&limit, "limit", 0, "lines at most; 0: all, and with --sort 1000")
	f.BoolVar(&asJSON, "json", false, "print a line of JSON for each; sizes are in bytes, times in seconds")
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions([]string{"size", "age", "key"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// answerOrders are the orders by name; that of the disk is nil.
func answerOrders() map[string]func(a, b edge.Answer) int {
	byKey := func(a, b edge.Answer) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.URI, b.URI), cmp.Compare(a.Set, b.Set), a.Validated.Compare(b.Validated))
	}
	return map[string]func(a, b edge.Answer) int{
		"":     nil,
		"key":  byKey,
		"size": func(a, b edge.Answer) int { return cmp.Or(cmp.Compare(b.Size, a.Size), byKey(a, b)) },
		"age":  func(a, b edge.Answer) int { return cmp.Or(cmp.Compare(b.Age, a.Age), byKey(a, b)) },
	}
}

func listAnswers(cmd *cobra.Command, answers iter.Seq[edge.Answer], compare func(a, b edge.Answer) int, limit int, asJSON bool) error {
	out := &lineWriter{w: cmd.OutOrStdout()}
	if compare != nil {
		answers = slices.Values(firstOf(answers, compare, limit))
	}
	n := 0
	for a := range answers {
		if asJSON {
			out.err = printJSON(out.w, a)
		} else {
			printAnswer(out, a)
		}
		if n++; out.err != nil || n == limit {
			break
		}
	}
	if err := cmd.Context().Err(); err != nil {
		return errors.Join(context.Cause(cmd.Context()), out.err)
	}
	return out.err
}

func printAnswer(out *lineWriter, a edge.Answer) {
	left, name := a.State, a.URI
	switch {
	case a.Set != "":
		left, name = "-", a.Set+" (which files of the set are shown)"
	case a.State == edge.StateFresh:
		left = ageText(a.Remaining)
	}
	out.printf("%8s %8s %8s  %s %s\n", bytesText(a.Size), ageText(a.Age), left, printable(a.Site), printable(name))
}

// firstOf returns the first n of the answers in an order, sorted. It holds no
// more than these in memory.
func firstOf(answers iter.Seq[edge.Answer], compare func(a, b edge.Answer) int, n int) []edge.Answer {
	h := &answerHeap{compare: compare}
	for a := range answers {
		switch {
		case len(h.list) < n:
			heap.Push(h, a)
		case compare(a, h.list[0]) < 0:
			h.list[0] = a
			heap.Fix(h, 0)
		}
	}
	slices.SortFunc(h.list, compare)
	return h.list
}

// answerHeap has the last in the order on top.
type answerHeap struct {
	list    []edge.Answer
	compare func(a, b edge.Answer) int
}

func (h *answerHeap) Len() int           { return len(h.list) }
func (h *answerHeap) Less(i, j int) bool { return h.compare(h.list[i], h.list[j]) > 0 }
func (h *answerHeap) Swap(i, j int)      { h.list[i], h.list[j] = h.list[j], h.list[i] }
func (h *answerHeap) Push(x any)         { h.list = append(h.list, x.(edge.Answer)) }
func (h *answerHeap) Pop() any {
	last := h.list[len(h.list)-1]
	h.list = h.list[:len(h.list)-1]
	return last
}
