// Command hub measures what publishing one changed app costs, in repositories
// of growing size, beside all steps of flatpak's publish on the same content:
// build-commit-from twice, as flat-manager runs it, and build-update-repo. Both are
// run in turn, and medians are compared, because machines are noisy; system
// calls on files are counted in a round of their own, by strace. Then it
// measures what generating static deltas costs, and how large they are, beside
// ostree and flatpak; uploads beside the disk and the hash; imports beside
// flatpak build-commit-from; and what start, publish, incremental check and prune
// cost in stores of growing size, where the peer is the smallest store.
//
// It prints one line a figure:
//
//	name ours peer ratio goal ok|short
//
// CPU is user and system time: of the hub's process during commit and publish
// for ours, of the commands for flatpak's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var cfg config
	flag.BoolVar(&cfg.quick, "quick", false, "smaller and once: publishes of 150 and 300 refs, uploads of 2,000 objects and 50 MB, an import of 10 MB, stores of 4,000 and 12,000 objects, and no deltas unless -only names them, then of 5 MB; all but uploads and imports in "+memoryDir+": under a minute")
	flag.StringVar(&cfg.binary, "freshet", "bin/freshet", "the binary to measure")
	only := flag.String("only", "", "measure just these: "+strings.Join(rowNames(), ","))
	cases := flag.String("cases", "", "measure just these: of publish "+caseNames()+", of deltas "+strings.Join(deltaCases(), ","))
	flag.Var(&cfg.sizes, "sizes", "of stores measure these, in objects, the smallest first (20000,200000,2000000)")
	flag.StringVar(&cfg.keep, "keep", "", "make trees and stores in this folder, leave them there, and take those that are; default: a temporary one")
	flag.BoolVar(&cfg.prepare, "prepare", false, "of deltas and stores: make trees and stores, take what looks at all of a store, and measure nothing else")
	flag.StringVar(&cfg.record, "record", "", "write the figures of stores into performance.md of this folder, with a plot beside it")
	flag.BoolVar(&cfg.calls, "calls", true, "count the system calls of a publish, with strace")
	flag.Parse()
	if *cases != "" {
		cfg.cases = strings.Split(*cases, ",")
	}
	if flag.Arg(0) == generateCommand {
		cfg.generate = flag.Args()[1:]
	}
	cfg.only = strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench hub:", err)
		stop()
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

type config struct {
	quick    bool
	binary   string
	only     []string // names of the parts that are measured; none: all
	calls    bool     // count system calls
	cases    []string // names of the cases of publish and deltas; none: all
	sizes    sizes    // of stores, in objects; none: three decades
	keep     string   // where trees and stores are; "" for a temporary folder
	prepare  bool     // only make them
	record   string   // folder of the documentation that is brought up to date; "" for none
	generate []string // arguments of generateDelta, when this is its process
}

// memory is the folder for what is measured in a quick run: a file system in memory, if
// the machine has one, since making many small files takes a disk longer than all else.
// Uploads and imports are measured on the disk. "" is the folder for temporary files.
func (c config) memory() string {
	if info, err := os.Stat(memoryDir); c.quick && err == nil && info.IsDir() {
		return memoryDir
	}
	return ""
}

const memoryDir = "/dev/shm"

func run(ctx context.Context, cfg config, out io.Writer) error {
	if cfg.generate != nil {
		return generateDelta(ctx, cfg.generate, out)
	}
	for _, r := range rows() {
		if len(cfg.only) > 0 && !slices.Contains(cfg.only, r.name) {
			continue
		}
		if cfg.quick && r.slow && len(cfg.only) == 0 {
			continue
		}
		begun := time.Now()
		if err := r.measure(ctx, cfg, out); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(os.Stderr, "# %s took %s\n", r.name, seconds(time.Since(begun)))
	}
	return nil
}

// row is one of the things that are measured.
type row struct {
	name    string
	measure func(context.Context, config, io.Writer) error
	slow    bool // even a quick run of it takes most of a minute
}

func rows() []row {
	return []row{
		{name: "publish", measure: measurePublish},
		{name: "upload", measure: measureUploads},
		{name: "import", measure: measureImports},
		{name: "store", measure: measureStores},
		{name: "deltas", measure: measureDeltas, slow: true},
	}
}

func rowNames() (names []string) {
	for _, r := range rows() {
		names = append(names, r.name)
	}
	return names
}

// sizes is a flag of numbers.
type sizes []int

// String implements flag.Value.
func (s *sizes) String() string { return fmt.Sprint([]int(*s)) }

// Set implements flag.Value.
func (s *sizes) Set(text string) error {
	*s = nil
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			return err
		}
		*s = append(*s, n)
	}
	return nil
}

func printLine(out io.Writer, name, ours, peer string, ratio, goal float64) {
	verdict := "ok"
	if ratio > goal {
		verdict = "short"
	}
	_, _ = fmt.Fprintf(out, "%s %s %s %.2f %.2f %s\n", name, ours, peer, ratio, goal, verdict)
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 3, 64) + "s" }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

// processCPU is the time all threads of a process have run so far, in
// nanoseconds: /proc/PID/stat counts in hundredths of a second, too coarse here.
// A thread that ends takes its time with it; Go's rarely do.
func processCPU(pid int) (time.Duration, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		return 0, fmt.Errorf("no CPU times of process %d", pid)
	}
	var total time.Duration
	for _, thread := range threads {
		b, err := os.ReadFile(thread)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		ran, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ran, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %q: %w", b, err)
		}
		total += time.Duration(n)
	}
	return total, nil
}
