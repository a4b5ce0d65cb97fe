package quota

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cloison/format/ext4"
	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
	"cloison/host/tree"
	"cloison/test/guest"
	"cloison/test/guest/job"
)

// TestShares: who has filled his share is told so, in bytes as in files, and the
// others and root go on writing. e2fsck finds the counts right.
func TestShares(t *testing.T) {
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	s := sdktest.Open(t)
	g, err := guest.New(t.Context(), guest.Options{Tree: root, Cache: cache, SDK: s, Log: progress.To(os.Stderr), Tools: []string{"usr/sbin/e2fsck"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	share := filepath.Join(dir, "share")
	if err := guest.Compile(t.Context(), root, "./test/quota/share", share); err != nil {
		t.Fatal(err)
	}
	// make makes a file system of 256 MiB, with features as target/state does.
	make := func(name string, features ...string) string {
		t.Helper()
		image := filepath.Join(dir, name)
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(image, 256<<20); err != nil {
			t.Fatal(err)
		}
		args := append([]string{"mke2fs", "-q", "-t", "ext4", "-F", "-b", "4096", "-i", "65536"}, features...)
		if err := s.Run(t.Context(), sdk.Step{Args: append(args, image), Dir: dir, Writable: []string{dir}}); err != nil {
			t.Fatal(err)
		}
		return image
	}
	with := make("with.img", "-O", "quota,project", "-E", "quotatype=prjquota")
	without := make("without.img")
	for image, want := range map[string]bool{with: true, without: false} {
		text, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ext4.CountsProjects(text[ext4.Start:][:ext4.Size]); got != want || err != nil {
			t.Errorf("CountsProjects of %s = %v, %v, want %v", filepath.Base(image), got, err, want)
		}
	}

	program := guest.Programs + "/share"
	results, err := g.Run(t.Context(), guest.Job{
		Disks:    []guest.Disk{{Name: "with", Path: with, Writable: true}, {Name: "without", Path: without, Writable: true}},
		Programs: map[string]string{"share": share},
		Commands: []job.Command{
			{Args: []string{
				program, guest.Disks + "/with", "prjquota", "enforced",
				"folder a 901", "folder b 902", "folder old 903", "hog old 903 bytes",
				"assign a 901", "assign a 901", "assign b 902", "assign old 903",
				"limit 901 1052672 17", "limit 902 2097152 17", "use 901",
				"hog a 901 bytes", "use 901", "hog a 0 bytes", "use 901", "hog b 902 bytes",
				"remove a", "hog a 901 files", "use 901", "hog b 902 files",
			}},
			{Args: []string{"/usr/sbin/e2fsck", "-f", "-n", guest.Disks + "/with"}},
			// The limits are on the disk, and hold after the next mount as well.
			{Args: []string{program, guest.Disks + "/with", "prjquota", "remove a", "hog a 901 bytes"}},
			{Args: []string{program, guest.Disks + "/with", "noatime", "enforced"}},
			{Args: []string{program, guest.Disks + "/without", "noatime", "enforced"}},
			{Args: []string{program, guest.Disks + "/without", "prjquota", "enforced"}, MayFail: true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]string{
		0: `enforced: true true
folder a 901: made
folder b 902: made
folder old 903: made
hog old 903 bytes: 67108864 bytes, then <nil>
assign a 901: done
assign a 901: done
assign b 902: done
assign old 903: not empty
limit 901 1052672 17: done
limit 902 2097152 17: done
use 901: 4096 bytes, 1 files of 1052672, 17
hog a 901 bytes: 1048576 bytes, then disk quota exceeded
use 901: 1052672 bytes, 2 files of 1052672, 17
hog a 0 bytes: 67108864 bytes, then <nil>
use 901: 67112960 bytes, 2 files of 1052672, 17
hog b 902 bytes: 2093056 bytes, then disk quota exceeded
remove a: 1 files
hog a 901 files: 16 files, then disk quota exceeded
use 901: 4096 bytes, 17 files of 1052672, 17
hog b 902 files: 15 files, then disk quota exceeded
`,
		2: "remove a: 16 files\nhog a 901 bytes: 1048576 bytes, then disk quota exceeded\n",
		3: "enforced: true false\n",
		4: "enforced: false false\n",
	} {
		if diff := cmp.Diff(want, string(results[i].Stdout)); diff != "" {
			t.Errorf("%q, -want +got:\n%s", results[i].Stdout, diff)
		}
	}
	if said := string(results[1].Stdout); strings.Contains(said, "QUOTA") {
		t.Errorf("e2fsck finds the counts wrong: %s", said)
	}
	// A kernel does not take the option where there is nothing to count with:
	// target/state must not give it.
	if results[5].Code == 0 {
		t.Errorf("a volume without quotas is mounted with them: %s", results[5].Stdout)
	}
}
