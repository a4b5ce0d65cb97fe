package swap

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cloison/host/progress"
	"cloison/host/sdk/sdktest"
	"cloison/host/tree"
	"cloison/test/guest"
	"cloison/test/guest/job"
)

// Sizes in MiB. Kernel and initramfs leave the guest less memory than is filled.
const (
	memory    = 128
	filled    = 112
	partition = 128
	// least is how many pages must have been swapped out: with fewer the test
	// would prove nothing.
	least = 4096
)

// revoked is a line of /proc/keys (keyrings(7)) of a key of 0 bytes.
var revoked = regexp.MustCompile(`^[0-9a-f]+ IR\S* .* logon +cloison:swap: 0\n$`)

func newGuest(t *testing.T, tools ...string) (root string, g *guest.Guest) {
	t.Helper()
	root, err := tree.Find(".")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tree.Cache()
	if err != nil {
		t.Fatal(err)
	}
	g, err = guest.New(t.Context(), guest.Options{Tree: root, Cache: cache, SDK: sdktest.Open(t), Log: progress.To(os.Stderr), Tools: tools})
	if err != nil {
		t.Fatal(err)
	}
	return root, g
}

// makeDisk makes an empty partition.
func makeDisk(t *testing.T, disk string) {
	t.Helper()
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, partition<<20); err != nil {
		t.Fatal(err)
	}
}

// What memory holds is swapped out, comes back as it was, and lies on the disk
// as ciphertext. The next boot can read nothing of it.
func TestSwap(t *testing.T) {
	root, g := newGuest(t, "usr/sbin/swapon", "usr/sbin/dmsetup", "usr/bin/cat")
	dir := t.TempDir()
	fill, disk := filepath.Join(dir, "fill"), filepath.Join(dir, "swap.img")
	if err := guest.Compile(t.Context(), root, "./test/swap/fill", fill); err != nil {
		t.Fatal(err)
	}
	makeDisk(t, disk)

	var headers [][]byte
	for boot := range 2 {
		results, err := g.Run(t.Context(), guest.Job{
			Disks: []guest.Disk{{Name: "swap", Path: disk, Writable: true}}, Programs: map[string]string{"fill": fill}, Memory: memory,
			Commands: []job.Command{
				{Args: []string{guest.Programs + "/fill", guest.Disks + "/swap", fmt.Sprint(filled)}},
				{Args: []string{"/usr/sbin/swapon", "--show=NAME,TYPE,SIZE", "--bytes", "--noheadings", "--raw"}},
				{Args: []string{"/usr/sbin/dmsetup", "table", "--showkeys", "swap"}},
				{Args: []string{"/usr/bin/cat", "/proc/keys"}},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		var before, after, back int
		if _, err := fmt.Sscan(string(results[0].Stdout), &before, &after, &back); err != nil {
			t.Fatalf("fill says %q: %v", results[0].Stdout, err)
		}
		t.Logf("boot %d: %d pages were on the device before, %d are now; %d came back", boot, before, after, back)
		if before != 0 {
			t.Errorf("boot %d reads %d pages of the boot before it", boot, before)
		}
		if after < least {
			t.Errorf("%d pages were swapped out, want %d at least", after, least)
		}
		if want := filled << 20 / 4096; back != want {
			t.Errorf("%d of %d pages are as they were", back, want)
		}
		for i, want := range map[int]string{
			1: fmt.Sprintf(`^/dev/dm-0 partition %d\n$`, partition<<20-4096),
			2: fmt.Sprintf(`^0 %d crypt aes-xts-plain64 :64:logon:cloison:swap 0 254:\d+ 0 1 sector_size:4096\s*$`, partition<<20/512),
		} {
			if !regexp.MustCompile(want).Match(results[i].Stdout) {
				t.Errorf("the real tool says %q, want %s", results[i].Stdout, want)
			}
		}
		// A revoked key stands in the list until it is collected, with no payload.
		for line := range strings.Lines(string(results[3].Stdout)) {
			if strings.Contains(line, "cloison:swap") && !revoked.MatchString(line) {
				t.Errorf("the key is still in a keyring: %s", line)
			}
		}

		image, err := os.ReadFile(disk)
		if err != nil {
			t.Fatal(err)
		}
		for _, clear := range []string{"a page of memory that must never", "SWAPSPACE2"} {
			if at := bytes.Index(image, []byte(clear)); at >= 0 {
				t.Errorf("boot %d left %q in clear on the disk, at %d", boot, clear, at)
			}
		}
		used := 0
		for at := 0; at < len(image); at += 4096 {
			if len(bytes.Trim(image[at:at+4096], "\x00")) > 0 {
				used++
			}
		}
		if used < after {
			t.Errorf("%d pages of the disk are in use, and %d of the device: the disk that was searched is another", used, after)
		}
		headers = append(headers, image[:4096])
	}
	// The first page says the same at each boot: under one key it would be the
	// same on the disk.
	if bytes.Equal(headers[0], headers[1]) {
		t.Error("both boots used the same key")
	}
}
