package repository

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

const (
	// faultEnv makes the test binary the process whose system calls fail.
	faultEnv = "FRESHET_TEST_FAULT_DIR"
	// faultsEnv is how many of the system calls of the publish are failed, or "all",
	// or "3/8" for the third of eight parts of all; by default faultSample, evenly.
	faultsEnv   = "FRESHET_FAULTS"
	faultSample = 40
	// faultErrorEnv is another error than faultCalls has, for the calls for which it has
	// another.
	faultErrorEnv = "FRESHET_FAULT_ERROR"

	faultRecord = "recorded"
	faultRefs   = "refs.json"

	// How the child ends. 0 is not among them: the package testing forbids it.
	exitPublished, exitFailed, exitUnfit = 10, 11, 12
)

// faultCalls are the system calls on files, and the error with which each fails:
// that of a full disk where it can be, else of a broken one.
var faultCalls = map[string]string{
	"openat": "ENOSPC", "write": "ENOSPC", "pwrite64": "ENOSPC", "mkdirat": "ENOSPC", "linkat": "ENOSPC", "renameat": "ENOSPC",
	"renameat2": "ENOSPC", "ftruncate": "ENOSPC", "copy_file_range": "ENOSPC", "fsync": "EIO", "fdatasync": "EIO", "syncfs": "EIO",
	"unlinkat": "EIO", "fchmod": "EIO", "fchmodat": "EIO", "newfstatat": "EIO", "fstat": "EIO", "getdents64": "EIO", "read": "EIO",
	"pread64": "EIO", "readlinkat": "EIO", "fcntl": "EIO", "close": "EIO",
}

// TestFaultChild opens the repository, waits for the end of its standard input and
// publishes one build. It is no test by itself.
func TestFaultChild(t *testing.T) {
	dir := os.Getenv(faultEnv)
	if dir == "" {
		t.Skip("it is run by TestEverySystemCallFails")
	}
	h := &hub{t: t, dir: dir, opt: faultOptions(t, dir)}
	repo, _, err := Open(t.Context(), h.opt, nil)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(exitUnfit)
	}
	request := h.faultRequest(repo)
	end := make(chan int)
	go func() {
		runtime.LockOSThread() // strace counts by thread
		_, _ = fmt.Fprintln(os.Stdout, "ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		_, err := repo.Publish(t.Context(), []PublishRequest{request}, nil, func(Result) error {
			return os.WriteFile(filepath.Join(dir, faultRecord), nil, 0o600)
		})
		if err != nil {
			_, _ = fmt.Fprintln(os.Stderr, err)
			end <- exitFailed
			return
		}
		end <- exitPublished
	}()
	os.Exit(<-end)
}

func faultOptions(t *testing.T, dir string) Options {
	t.Helper()
	o := Options{
		Name: "stable", Dir: filepath.Join(dir, "repos", "stable"), BuildsDir: filepath.Join(dir, "builds"),
		CollectionID: "org.test.Stable", Title: "Test repository", AppstreamCheckout: true,
	}
	crashOptions(t, dir)(&o)
	return o
}

// faultRequest is the request for the build that waits in the folder.
func (h *hub) faultRequest(repo *Repository) PublishRequest {
	h.t.Helper()
	request := PublishRequest{Key: "fault"}
	if err := json.Unmarshal([]byte(readFile(h.t, filepath.Join(h.dir, faultRefs))), &request.Refs); err != nil {
		h.t.Fatal(err)
	}
	var err error
	if request.Build, err = repo.Build(2); err != nil {
		h.t.Fatal(err)
	}
	return request
}

// TestEverySystemCallFails fails the system calls of a publish one by one. After
// each the repository is whole, old or new, nobody was told of what is not there,
// and the publish succeeds when it is asked for again.
func TestEverySystemCallFails(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree", "strace")
	pristine := faultStart(t)
	before := faultHead(t, pristine)

	dir := faultCopy(t, pristine)
	trace, exit, stderr := faultRun(t, dir, "-e", "trace="+strings.Join(sortedKeys(faultCalls), ","))
	if exit != exitPublished {
		t.Fatalf("without a fault: %d %s", exit, stderr)
	}
	type fault struct {
		call string
		n    int
	}
	var faults []fault
	for call, n := range faultCounts(trace) {
		if faultCalls[call] == os.Getenv(faultErrorEnv) {
			continue
		}
		for i := range n {
			faults = append(faults, fault{call, i + 1})
		}
	}
	slices.SortFunc(faults, func(a, b fault) int {
		return strings.Compare(fmt.Sprintf("%s %06d", a.call, a.n), fmt.Sprintf("%s %06d", b.call, b.n))
	})
	if len(faults) < 50 {
		t.Fatalf("only %d system calls were seen:\n%s", len(faults), trace)
	}
	first, step := faultStep(t, len(faults))
	published, injected, tried := 0, 0, 0
	for i := first; i < len(faults); i += step {
		f := faults[i]
		failure := cmp.Or(os.Getenv(faultErrorEnv), faultCalls[f.call])
		what := fmt.Sprintf("%s %d fails with %s", f.call, f.n, failure)
		dir := faultCopy(t, pristine)
		trace, exit, stderr := faultRun(t, dir, "-e", "trace="+f.call,
			"-e", fmt.Sprintf("inject=%s:error=%s:when=%d", f.call, failure, f.n))
		tried++
		if strings.Contains(trace, "(INJECTED)") {
			injected++
		}
		if exit == exitPublished {
			published++
		} else if exit != exitFailed {
			t.Errorf("%s: exit status %d %s", what, exit, stderr)
		}
		faultVerify(t, dir, before, exit, what+": "+stderr)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("%s\n%s\n%s", what, stderr, trace)
		}
	}
	t.Logf("%v", faultCounts(trace))
	t.Logf("%d of %d system calls were to fail, %d did; %d publishes succeeded in spite of it", tried, len(faults), injected, published)
	if injected < tried/2 {
		t.Errorf("of %d faults %d took place", tried, injected)
	}
}

// faultStep tells which of the system calls is failed first, from 0, and how far apart
// they are.
func faultStep(t *testing.T, calls int) (first, step int) {
	t.Helper()
	text := cmp.Or(os.Getenv(faultsEnv), strconv.Itoa(faultSample))
	if text == "all" {
		return 0, 1
	}
	if part, parts, ok := strings.Cut(text, "/"); ok {
		first, err := strconv.Atoi(part)
		step, partsErr := strconv.Atoi(parts)
		if err != nil || partsErr != nil || first < 1 || first > step {
			t.Fatalf("%s: %q", faultsEnv, text)
		}
		return first - 1, step
	}
	sample, err := strconv.Atoi(text)
	if err != nil || sample < 1 {
		t.Fatalf("%s: %q", faultsEnv, text)
	}
	return 0, max(1, calls/sample)
}

// faultStart makes a repository with one version, and a build with the next one.
func faultStart(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	h := &hub{t: t, dir: dir, cache: memoryCache{}, opt: faultOptions(t, dir)}
	h.open()
	h.publishApp(crashID, "v1")
	u := uploader{}
	request := h.commit(u, map[string]string{appRef(crashID): u.commit(t, appRef(crashID), appTree(crashID, "v2"))})
	if request.Build.id != 2 {
		t.Fatalf("build %d", request.Build.id)
	}
	refs, err := json.Marshal(request.Refs)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, faultRefs), refs, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.close()
	return dir
}

func faultCopy(t *testing.T, from string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	// The config of a build names the folder of its parent.
	config := filepath.Join(dir, "builds", "2", configFile)
	data := strings.ReplaceAll(readFile(t, config), from, dir)
	if err := os.WriteFile(config, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func faultHead(t *testing.T, dir string) string {
	t.Helper()
	h := &hub{t: t, dir: dir, opt: faultOptions(t, dir)}
	sum, err := h.objects().ResolveRef(appRef(crashID))
	if err != nil {
		t.Fatal(err)
	}
	return sum.String()
}

// faultRun runs the child, whose publish strace watches.
func faultRun(t *testing.T, dir string, args ...string) (trace string, exit int, stderr string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFaultChild$")
	child.Env = append(os.Environ(), faultEnv+"="+dir)
	var errs bytes.Buffer
	child.Stderr = &errs
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		_ = child.Wait()
		t.Fatalf("the child says %q: %v %s", line, err, errs.String())
	}
	file := filepath.Join(t.TempDir(), "trace")
	strace := exec.CommandContext(t.Context(), "strace", append([]string{"-f", "-o", file, "-p", strconv.Itoa(child.Process.Pid)}, args...)...)
	said, err := strace.StderrPipe()
	if err == nil {
		err = strace.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	attached, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.Contains(attached, "attached") {
		t.Fatalf("strace says %q: %v", attached, err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, lines)
	var status *exec.ExitError
	if err := child.Wait(); errors.As(err, &status) {
		exit = status.ExitCode()
	}
	_ = strace.Wait() // it ends as the child does
	return readFile(t, file), exit, errs.String()
}

// faultCounts counts the system calls of the thread that made most.
func faultCounts(trace string) map[string]int {
	threads := map[string]map[string]int{}
	most, busiest := 0, ""
	total := map[string]int{}
	for line := range strings.Lines(trace) {
		thread, rest, _ := strings.Cut(line, " ")
		call, _, ok := strings.Cut(strings.TrimSpace(rest), "(")
		if !ok || faultCalls[call] == "" {
			continue
		}
		if threads[thread] == nil {
			threads[thread] = map[string]int{}
		}
		threads[thread][call]++
		if total[thread]++; total[thread] > most {
			most, busiest = total[thread], thread
		}
	}
	return threads[busiest]
}

// faultVerify opens what the child left and demands that all is well.
func faultVerify(t *testing.T, dir, before string, exit int, what string) {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, faultRecord))
	told := err == nil
	h := &hub{t: t, dir: dir, cache: memoryCache{}, opt: faultOptions(t, dir)}
	repo, pending, err := Open(t.Context(), h.opt, h.cache)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	h.repo = repo
	for _, p := range pending {
		told = told || slices.Contains(p.Keys, "fault")
		if err := p.Confirm(); err != nil {
			t.Error(err)
		}
	}
	head := h.headSum(appRef(crashID))
	switch {
	case head == before && (told || exit == exitPublished):
		t.Errorf("%s: somebody was told of a publish that is not there", what)
	case head != before && !told:
		t.Errorf("%s: it is published and nobody was told", what)
	}
	h.check()
	checkSignatures(t, h)
	fsck(t, h.opt.Dir)
	ownFsck(t, h.opt.Dir)
	h.publish(h.faultRequest(repo))
	if got := h.head(appRef(crashID)); h.headSum(appRef(crashID)) == before || got.Parent.String() != before {
		t.Errorf("%s: published again, it is %s, child of %s", what, h.headSum(appRef(crashID)), got.Parent)
	}
	h.check()
	h.close()
}
