package kernel

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
	"cloison/host/tree"
	"cloison/linux/file"
	"cloison/test/guest"
	"cloison/test/guest/job"
)

// source is the package of the kernel that the image has; the others are what its
// tests are built with.
const source = "linux-source-7.3"

var tools = []string{source, "clang-22", "lld-22", "libc6-dev", "libcap-dev"}

// memory of the guest, in MiB.
const memory = 1024

//go:embed build.sh
var recipe string

//go:embed testdata/expected.txt
var expected string

func TestKernelsOwnTests(t *testing.T) {
	s := sdktest.Open(t)
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	built, err := build(t.Context(), s, cache)
	if err != nil {
		t.Fatal(err)
	}
	wants, err := parseExpected(expected)
	if err != nil {
		t.Fatal(err)
	}
	arena := filepath.Join(t.TempDir(), "arena")
	if err := guest.Compile(t.Context(), root, "./test/kernel/arena", arena); err != nil {
		t.Fatal(err)
	}
	// The guest has one folder for programs: the tests' own folder is in the name.
	programs := map[string]string{"arena": arena}
	found, err := filepath.Glob(filepath.Join(built, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		programs[filepath.Base(filepath.Dir(p))+"."+filepath.Base(p)] = p
	}
	var commands []job.Command
	for _, w := range wants {
		folder, program, _ := strings.Cut(w.program, "/")
		commands = append(commands, job.Command{Args: []string{guest.Programs + "/arena", folder, program}, MayFail: true})
	}
	for _, p := range found {
		name := filepath.Base(filepath.Dir(p)) + "/" + filepath.Base(p)
		isTest := strings.HasSuffix(name, "_test") || name == "seccomp/seccomp_bpf" || name == "exec/check-exec"
		if isTest && !slices.ContainsFunc(wants, func(w want) bool { return w.program == name }) {
			t.Errorf("nothing is said of %s", name)
		}
	}
	g, err := guest.New(t.Context(), guest.Options{Tree: root, Cache: cache, SDK: s, Log: progress.To(os.Stderr)})
	if err != nil {
		t.Fatal(err)
	}
	results, err := g.Run(t.Context(), guest.Job{Programs: programs, Commands: commands, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range wants {
		t.Run(w.program, func(t *testing.T) {
			r := results[i]
			got, err := parseTAP(string(r.Stdout))
			if err != nil {
				t.Fatalf("%v\n%s%s", err, r.Stdout, r.Stderr)
			}
			t.Logf("%d tests, in %v", len(got), r.Took)
			if differences := w.compare(got); len(differences) > 0 {
				t.Errorf("%s\n%s%s", strings.Join(differences, "\n"), r.Stdout, r.Stderr)
			}
		})
	}
}

// build returns the folder with the tests, made once for each set of inputs.
func build(ctx context.Context, s *sdk.SDK, cache string) (string, error) {
	inputs := sha256.New()
	fmt.Fprintln(inputs, recipe)
	for _, p := range s.Packages {
		if slices.Contains(tools, p.Name) {
			fmt.Fprintln(inputs, p.Name, p.Version, p.SHA256)
		}
	}
	folder := filepath.Join(cache, "kernel-tests")
	done := filepath.Join(folder, hex.EncodeToString(inputs.Sum(nil))[:16])
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	unlock, err := file.Lock(ctx, filepath.Join(folder, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(done); err == nil {
		return done, nil
	}
	work := filepath.Join(folder, "work")
	if err := errors.Join(os.RemoveAll(work), os.MkdirAll(filepath.Join(work, "source"), 0o755), os.Mkdir(filepath.Join(work, "done"), 0o755)); err != nil {
		return "", err
	}
	err = s.Run(ctx, sdk.Step{
		Args: []string{"sh", "-c", recipe}, Dir: "/build", Env: []string{"SOURCE=" + source},
		Outputs: []sdk.Bind{{Host: work, Inside: "/build"}},
	})
	if err == nil {
		err = os.Rename(filepath.Join(work, "done"), done)
	}
	return done, errors.Join(err, os.RemoveAll(work))
}

// outcome of one test.
type outcome struct{ name, how string }

const (
	passes = "pass"
	skips  = "skip"
	fails  = "fail"
	either = "either" // of a test that depends on time
)

var (
	planLine   = regexp.MustCompile(`(?m)^1\.\.(\d+)$`)
	resultLine = regexp.MustCompile(`(?m)^(ok|not ok) (\d+) (.*)$`)
)

// parseTAP reads what a program says: a plan and a line for each test, in order.
func parseTAP(text string) (all []outcome, err error) {
	plan := planLine.FindStringSubmatch(text)
	if plan == nil {
		return nil, errors.New("there is no plan")
	}
	for i, m := range resultLine.FindAllStringSubmatch(text, -1) {
		if m[2] != strconv.Itoa(i+1) {
			return nil, fmt.Errorf("result %d is %q", i+1, m[0])
		}
		name, _, skipped := strings.Cut(m[3], " # SKIP")
		o := outcome{name, passes}
		switch {
		case m[1] == "not ok":
			o.how = fails
		case skipped:
			o.how = skips
		}
		all = append(all, o)
	}
	if strconv.Itoa(len(all)) != plan[1] {
		return nil, fmt.Errorf("%d results, the plan has %s", len(all), plan[1])
	}
	return all, nil
}

// want is what is expected of one program: so many tests, all of which pass but
// those that are named.
type want struct {
	program string
	tests   int
	others  map[string]string // name of a test, in which * stands for anything, to how it ends
}

// parseExpected reads the list: "PROGRAM TESTS", and below it for each exception
// "skip NAME # why", "fail NAME # why" or "either NAME # why".
func parseExpected(text string) (all []want, err error) {
	for number, line := range strings.Split(text, "\n") {
		what, why, _ := strings.Cut(line, "#")
		fields := strings.Fields(what)
		switch {
		case len(fields) == 0:
		case len(fields) == 2 && slices.Contains([]string{skips, fails, either}, fields[0]):
			if len(all) == 0 || strings.TrimSpace(why) == "" {
				return nil, fmt.Errorf("line %d of the list gives no reason, or has no program", number+1)
			}
			all[len(all)-1].others[fields[1]] = fields[0]
		case len(fields) == 2:
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				return nil, fmt.Errorf("line %d of the list: %w", number+1, err)
			}
			all = append(all, want{fields[0], n, map[string]string{}})
		default:
			return nil, fmt.Errorf("line %d of the list is %q", number+1, line)
		}
	}
	return all, nil
}

// compare says how the outcomes differ from what is wanted.
func (w want) compare(got []outcome) (differences []string) {
	if len(got) != w.tests {
		differences = append(differences, fmt.Sprintf("%d tests, want %d", len(got), w.tests))
	}
	used := map[string]bool{}
	for _, o := range got {
		how := passes
		for name, other := range w.others {
			// A pattern that is wrong matches nothing, which is said below.
			if match, _ := path.Match(name, o.name); match {
				how, used[name] = other, true
			}
		}
		if o.how != how && how != either {
			differences = append(differences, fmt.Sprintf("%s: %s, want %s", o.name, o.how, how))
		}
	}
	for name := range w.others {
		if !used[name] {
			differences = append(differences, "no test is called "+name)
		}
	}
	return differences
}

func TestParseTAP(t *testing.T) {
	const text = "TAP version 13\n1..3\n# RUN a\nok 1 a.b\nnot ok 2 a.c\nok 3 a.d # SKIP no overlayfs\n"
	got, err := parseTAP(text)
	if want := []outcome{{"a.b", passes}, {"a.c", fails}, {"a.d", skips}}; !slices.Equal(got, want) || err != nil {
		t.Errorf("parseTAP = %v, %v, want %v", got, err, want)
	}
	for _, wrong := range []string{"", "ok 1 a\n", "1..2\nok 1 a\n", "1..2\nok 1 a\nok 3 b\n", "1..1\nok 1 a\nok 2 b\n"} {
		if got, err := parseTAP(wrong); err == nil {
			t.Errorf("parseTAP(%q) = %v, want an error", wrong, got)
		}
	}
	w := want{"x/y", 3, map[string]string{"a.c": fails, "a*d": skips}}
	if d := w.compare(got); len(d) > 0 {
		t.Errorf("compare = %q, want nothing", d)
	}
	for _, other := range []map[string]string{{"a.d": skips}, {"a.c": fails}, {"a.c": fails, "a.d": fails}, {"a.c": fails, "a.d": skips, "a.e": skips}} {
		if d := (want{"x/y", 3, other}).compare(got); len(d) == 0 {
			t.Errorf("compare with %v finds nothing", other)
		}
	}
}
