package attack

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cloison/host/build"
	"cloison/host/machine"
	"cloison/host/sdk/sdktest"
	"cloison/host/tree"
	"cloison/test/attack/probe"
	"cloison/test/attack/siege"
)

var update = flag.Bool("update", false, "write the table of the documents anew")

// deadline of the whole siege: some 3000 boxes, under an emulated processor.
const deadline = 55 * time.Minute

// fewest is how many ways out have to be tried at least.
const fewest = 120

// row is what came of one attempt, by the name of the box.
type row struct {
	group, name string
	results     map[string]string
}

// allowed is what a declaration grants: there it has to go through.
var allowed = map[string][]string{
	"timed": {"set the clock", "make the clock run faster"},
}

// known is what gets through all the same, in the box of root or in all, and why
// it is let.
var known = []struct {
	name, why string
	root      bool
}{
	{"read this program", "it is in every copy of the image", true},
	{"raise its own limit of processes", "the limit of its control group holds", true},
	{"raise its own limit of descriptors", "the limit of its control group's memory holds", true},
	{"raise its own limit of file sizes", "nothing else limits it: no service has root", true},
	{"allow itself core dumps", "the kernel makes none", true},
	{"make one pipe as large as can be", "its pages are its control group's memory", true},
	{"wake the machine by an alarm", "the kernel cannot sleep", true},
	{"read /proc/self/stack", "it tells where the kernel is: no service has root", true},
	{"read /proc/self/syscall", "it tells where the stack is, its own", true},
	{"fill the state volume", "root goes over every quota: no service has root", true},
}

// isKnown tells whether an attempt may get through in a box.
func isKnown(name, box string) bool {
	for _, k := range known {
		if k.name == name && (!k.root || box == "root") {
			return true
		}
	}
	return slices.Contains(allowed[box], name)
}

func TestAttacks(t *testing.T) {
	s := sdktest.Open(t)
	disk := filepath.Join(image(t), build.DiskName)
	accelerator, err := machine.Probe(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	dir := t.TempDir()
	template, err := machine.NewTemplate(ctx, s, accelerator, filepath.Join(dir, "template"), disk)
	if err != nil {
		t.Fatal(err)
	}
	defer template.Close()
	folder, err := template.Folder(s, filepath.Join(dir, "machine"), disk)
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	m, err := machine.Start(ctx, machine.Config{SDK: s, Folder: folder, Accelerator: accelerator, NoReboot: true})
	if err != nil {
		t.Fatal(err)
	}
	go m.Unattended(machine.Patience, os.Stderr)
	defer m.Close()
	if dump := os.Getenv("CLOISON_ATTACK_CONSOLE"); dump != "" {
		f, err := os.Create(dump)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() // for whoever watches
		m.Console.Mirror(f)
	}
	if _, err := m.Console.Expect(ctx, regexp.MustCompile(`cloison-attack: (done|cannot .*)`)); err != nil {
		t.Fatal(err)
	}
	text := m.Console.Text()
	// The machine goes on: whoever sits at it gets an answer, and it ends in order.
	if _, err := m.Console.Write([]byte("\rpoweroff\r")); err != nil {
		t.Fatal(err)
	}
	if exit, err := m.Wait(); err != nil || exit.Reason != "guest-shutdown" {
		t.Errorf("after the siege the machine ends by %v, %v", exit, err)
	}
	if !strings.Contains(text, "cloison-attack: done") {
		t.Fatalf("the siege ended early:\n%s", text[max(0, len(text)-4000):])
	}
	rows, boxes, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	check(t, rows, boxes)
	table := print(rows, boxes)
	t.Logf("\n%s", table)

	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, "docs/evidence/attacks.md")
	if *update {
		if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), table); diff != "" {
		t.Errorf("docs/evidence/attacks.md says something else (go test ./test/attack -update writes it), -want +got:\n%s", diff)
	}
}

var line = regexp.MustCompile(`(?m)^.*cloison-attack: (\d+) \| ([^|\n]*) \| ([^|\n]*) \| ([^\r\n]*)\r?$`)

// parse reads the lines of the siege. Each attempt has to be there, in order, with
// a result in every box.
func parse(text string) (rows []row, boxes []string, err error) {
	attempts := probe.Attempts()
	for i, m := range line.FindAllStringSubmatch(text, -1) {
		if n, err := strconv.Atoi(m[1]); err != nil || n != i+1 || n > len(attempts) || attempts[i].Group != m[2] || attempts[i].Name != m[3] {
			return nil, nil, fmt.Errorf("line %d of the siege is %q", i+1, m[0])
		}
		r := row{m[2], m[3], map[string]string{}}
		var here []string
		for part := range strings.SplitSeq(m[4], " | ") {
			box, result, ok := strings.Cut(part, "=")
			if !ok || r.results[box] != "" || result == "" {
				return nil, nil, fmt.Errorf("line %d of the siege has %q", i+1, part)
			}
			r.results[box], here = result, append(here, box)
		}
		if i > 0 && !slices.Equal(here, boxes) {
			return nil, nil, fmt.Errorf("line %d of the siege has the boxes %q, not %q", i+1, here, boxes)
		}
		rows, boxes = append(rows, r), here
	}
	if len(rows) != len(attempts) {
		return nil, nil, fmt.Errorf("%d of %d attempts have a result", len(rows), len(attempts))
	}
	return rows, boxes, nil
}

// isWhole tells the boxes in which nothing may get through from those with one
// layer only.
func isWhole(box string) bool {
	return !slices.ContainsFunc(siege.Alone(), func(c siege.Config) bool { return c.Name == box })
}

func check(t *testing.T, rows []row, boxes []string) {
	t.Helper()
	if len(rows) < fewest {
		t.Errorf("%d attempts, at least %d", len(rows), fewest)
	}
	if !slices.Contains(boxes, "probe") || !slices.Contains(boxes, "root") || !slices.Contains(boxes, "console") {
		t.Errorf("boxes %q", boxes)
	}
	for _, k := range known {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.name == k.name && strings.HasPrefix(r.results["root"], "THROUGH") }) {
			t.Errorf("%s is known to get through, and is stopped: that is to be said", k.name)
		}
	}
	for _, r := range rows {
		for _, box := range boxes {
			result := r.results[box]
			ran := result != "HANGS" && !strings.HasPrefix(result, "DID NOT")
			through := strings.HasPrefix(result, "THROUGH")
			switch {
			case !ran:
				t.Errorf("%s, in the box of %s: %s", r.name, box, result)
			case isWhole(box) && through && !isKnown(r.name, box):
				t.Errorf("%s, in the box of %s: %s", r.name, box, result)
			case !through && slices.Contains(allowed[box], r.name):
				t.Errorf("%s, in the box of %s, which is allowed to: %s", r.name, box, result)
			}
		}
	}
}

// walls are the layers that stop an attempt alone, where the box without them
// does not, or stops it otherwise.
func walls(r row) []string {
	var all []string
	bare := r.results["box"]
	if r.results["root"] == "killed: bad system call" {
		all = append(all, siege.Filter)
	}
	for _, c := range siege.Alone() {
		result := r.results[c.Name]
		if !strings.HasPrefix(result, "THROUGH") && (c.Name == "box" || result != bare) {
			all = append(all, c.Name)
		}
	}
	return all
}

// print makes the table of the documents.
func print(rows []row, boxes []string) string {
	var b strings.Builder
	fmt.Fprint(&b, heading)
	services := slices.DeleteFunc(slices.Clone(boxes), func(box string) bool { return !isWhole(box) })
	fmt.Fprintf(&b, "%d attempts, in %d boxes: %s.\n", len(rows), len(services), strings.Join(services, ", "))
	counts := map[int]int{}
	for _, r := range rows {
		counts[len(walls(r))]++
	}
	fmt.Fprintf(&b, "\n| layers that stop it, each alone | attempts |\n|---|---|\n")
	for n := range len(siege.Alone()) + 2 {
		if counts[n] > 0 {
			fmt.Fprintf(&b, "| %d | %d |\n", n, counts[n])
		}
	}
	fmt.Fprint(&b, "\n| gets through | in the box of | why it is let |\n|---|---|---|\n")
	for _, k := range known {
		where := "every service that keeps something"
		if k.root {
			where = "root"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", k.name, where, k.why)
	}
	last := ""
	for _, r := range rows {
		if r.group != last {
			fmt.Fprintf(&b, "\n## %s\n\n| attempt | %s | layers |\n|---|%s---|\n", strings.ToUpper(r.group[:1])+r.group[1:], strings.Join(services, " | "), strings.Repeat("---|", len(services)))
			last = r.group
		}
		fmt.Fprintf(&b, "| %s |", r.name)
		for _, box := range services {
			result := r.results[box]
			if strings.HasPrefix(result, "THROUGH") {
				result = "**through**"
				if slices.Contains(allowed[box], r.name) {
					result = "allowed"
				}
			}
			fmt.Fprintf(&b, " %s |", result)
		}
		fmt.Fprintf(&b, " %s |\n", strings.Join(walls(r), ", "))
	}
	return b.String()
}

const heading = `# Attacks from inside a box

Written by ` + "`go test ./test/attack -update`" + `, which boots an image in which a probe has
taken the place of each service, and tries each way out for real. It fails when one gets
through, or was not tried. What stops an attempt first, in the box of each service:
` + "`killed: bad system call`" + ` is seccomp, everything else is the kernel's answer. The box called
root is that of probe, with root and all capabilities in it.

The last column has the layers that stop the attempt each alone, with all others left
out: **seccomp**, **landlock**, **user** (a user without capabilities), **w^x** (memory that
is written is not executed), and **box**, which is what is left without these: namespaces,
the root and its mounts, limits, and the kernel's configuration.

`
