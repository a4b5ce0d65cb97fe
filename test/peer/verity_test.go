package peer_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cloison/format/fec"
	"cloison/format/verity"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

var (
	veritySalt = [32]byte{0: 0xfe, 1: 0xdc, 2: 0xba, 31: 0x98}
	verityUUID = [16]byte{0xde, 0xad, 0xbe, 0xef, 0, 1, 0x40, 2, 0x80, 3, 4, 5, 6, 7, 8, 9}
)

// verityImage is an image of random data as this tree formats it.
type verityImage struct {
	blocks    uint64
	root      string // hex
	bytes     []byte // data, hash area, parity
	hash, fec int    // offsets
}

func newVerityImage(t *testing.T, blocks uint64) verityImage {
	t.Helper()
	data := make([]byte, blocks*verity.BlockSize)
	if _, err := rand.NewChaCha8([32]byte{byte(blocks), byte(blocks >> 8), 1}).Read(data); err != nil {
		t.Fatal(err)
	}
	tree, err := verity.Build(bytes.NewReader(data), blocks, veritySalt, verityUUID)
	if err != nil {
		t.Fatal(err)
	}
	region := verity.Covered(bytes.NewReader(data), bytes.NewReader(tree.Hashes), blocks)
	parity, err := fec.Encode(region, verity.CoveredBlocks(blocks), 2)
	if err != nil {
		t.Fatal(err)
	}
	return verityImage{
		blocks: blocks,
		root:   hex.EncodeToString(tree.Root[:]),
		bytes:  bytes.Join([][]byte{data, tree.Hashes, parity}, nil),
		hash:   len(data),
		fec:    len(data) + len(tree.Hashes),
	}
}

// veritysetup runs one action of the SDK's veritysetup on file, with options
// that tell where the hash area lies and, where asked, the parity. It returns
// what was printed on both streams.
func (v verityImage) veritysetup(t *testing.T, tools *sdk.SDK, action, file string, withFEC bool, options ...string) (string, error) {
	t.Helper()
	args := []string{"veritysetup", action, file, file}
	if action == "verify" {
		args = append(args, v.root)
	}
	args = append(args, fmt.Sprintf("--hash-offset=%d", v.hash))
	if withFEC {
		args = append(args, "--fec-device="+file, fmt.Sprintf("--fec-offset=%d", v.fec), "--fec-roots=2")
	}
	var out bytes.Buffer
	err := tools.Run(t.Context(), sdk.Step{
		Args:     append(args, options...),
		Writable: []string{filepath.Dir(file)},
		Stdout:   &out, Stderr: &out,
	})
	return out.String(), err
}

// TestVeritysetupFormat compares whole images, byte for byte.
func TestVeritysetupFormat(t *testing.T) {
	tools := sdktest.Open(t)
	// Levels end at 128 and 16384 blocks. 250 blocks with their 3 hash blocks
	// fill the 253 strips of one round of parity, 251 begin a second; 10000
	// blocks are 40 MiB.
	for _, blocks := range []uint64{1, 2, 127, 128, 129, 250, 251, 252, 253, 254, 10000, 16384, 16385} {
		t.Run(fmt.Sprint(blocks), func(t *testing.T) {
			ours := newVerityImage(t, blocks)
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, ours.bytes[:ours.hash], 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := ours.veritysetup(t, tools, "format", file, true,
				fmt.Sprintf("--data-blocks=%d", blocks),
				fmt.Sprintf("--salt=%x", veritySalt),
				fmt.Sprintf("--uuid=%x-%x-%x-%x-%x", verityUUID[:4], verityUUID[4:6], verityUUID[6:8], verityUUID[8:10], verityUUID[10:]))
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			root := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})\n`).FindStringSubmatch(out)
			if root == nil || root[1] != ours.root {
				t.Errorf("root hash %s, veritysetup printed\n%s", ours.root, out)
			}
			theirs, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if len(theirs) != len(ours.bytes) {
				t.Errorf("image has %d bytes, veritysetup's %d", len(ours.bytes), len(theirs))
			}
			for _, area := range []struct {
				name       string
				start, end int
			}{{"data", 0, ours.hash}, {"hash", ours.hash, ours.fec}, {"parity", ours.fec, len(ours.bytes)}} {
				if area.end <= len(theirs) && !bytes.Equal(ours.bytes[area.start:area.end], theirs[area.start:area.end]) {
					t.Errorf("%s area differs from veritysetup's", area.name)
				}
			}
		})
	}
}

// TestVeritysetupVerify has veritysetup judge our image, sound and damaged. With
// parity it tells how many bytes it could correct; it exits with success for any
// damage, because two roots correct one byte of a code word and rarely notice
// two, so only the number shows that the parity fits.
func TestVeritysetupVerify(t *testing.T) {
	tools := sdktest.Open(t)
	ours := newVerityImage(t, 1000) // parity of 4 rounds
	last := ours.hash - 1
	for _, test := range []struct {
		name    string
		damage  [][2]int // start and end, all bytes inverted
		refused string   // by the tree alone
		healed  string   // with parity
	}{
		{"sound", nil, "", ""},
		{
			"one byte",
			[][2]int{{last, last + 1}},
			"Verification failed at position 4091904",
			"Found 1 repairable errors",
		},
		{
			"one block",
			[][2]int{{7 * 4096, 8 * 4096}},
			"Verification failed at position 28672",
			"Found 4096 repairable errors",
		},
		{
			"a whole strip and a little of its neighbour's tail",
			// Blocks 8 to 11 are strip 2. A byte in strip 3 that is in the
			// code word of a damaged byte could not be healed as well.
			[][2]int{{8 * 4096, 12*4096 - 10}, {16*4096 - 10, 16 * 4096}},
			"Verification failed at position 32768",
			"Found 16384 repairable errors",
		},
		{
			"one hash block",
			[][2]int{{ours.hash + 2*4096, ours.hash + 3*4096}},
			"Verification failed at position 0",
			"Found 4096 repairable errors",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			image := bytes.Clone(ours.bytes)
			for _, d := range test.damage {
				for i := d[0]; i < d[1]; i++ {
					image[i] ^= 0xff
				}
			}
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, image, 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := ours.veritysetup(t, tools, "verify", file, false)
			if (err != nil) != (test.refused != "") || !strings.Contains(out, test.refused) {
				t.Errorf("veritysetup verify = %v, want %q; it printed\n%s", err, test.refused, out)
			}
			out, err = ours.veritysetup(t, tools, "verify", file, true)
			if err != nil || !strings.Contains(out, test.healed) {
				t.Errorf("veritysetup verify with parity = %v, want %q; it printed\n%s", err, test.healed, out)
			}
			if test.healed == "" && strings.Contains(out, "repairable") {
				t.Errorf("veritysetup verify with parity repairs a sound image:\n%s", out)
			}
		})
	}
}
