// Package boot boots the real image in a machine with Secure Boot and a TPM,
// whole and after every attack that it must refuse. Each script of testdata
// is one story; the comments of the commands say how they are used.
package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cloison/host/build/buildtest"
	"cloison/host/machine"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// deadline of one thing that a script waits for. It is generous: a boot takes
// ten seconds under TCG on an idle host, and a time-out is a failure.
const deadline = 300 * time.Second

// side is how many machines run at the same time: each has two virtual CPUs.
const side = 2

// bench is what all scripts share.
type bench struct {
	sdk         *sdk.SDK
	out, keys   string
	image       string // path of disk.img
	template    *machine.Template
	accelerator machine.Accelerator
	places      chan struct{}
	facts       facts
	workshop    func() (workshop, error)
	// variant builds one, once, and returns its folder.
	variant map[string]func() (string, error)
	// provisioned makes a machine that has had its first boot, once.
	provisioned func() (*machine.Folder, error)
}

// facts of the build, for scripts.
type facts struct {
	Version         string `json:"version"`
	SecurityVersion uint64 `json:"security_version"`
	Core            struct {
		Size       int64  `json:"size"`
		RootHash   string `json:"root_hash"`
		DataBlocks int64  `json:"data_blocks"`
		HashOffset int64  `json:"hash_offset"`
		FECOffset  int64  `json:"fec_offset"`
	} `json:"core"`
	UKI struct {
		PCR11    string `json:"pcr11"`
		Cmdline  string `json:"cmdline"`
		Recovery struct {
			PCR11 string `json:"pcr11"`
		} `json:"recovery"`
	} `json:"uki"`
}

func TestBoot(t *testing.T) {
	b := &bench{sdk: sdktest.Open(t), places: make(chan struct{}, side)}
	b.out, b.keys = buildtest.Image(t)
	b.image = filepath.Join(b.out, "disk.img")
	text, err := os.ReadFile(filepath.Join(b.out, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &b.facts); err != nil {
		t.Fatal(err)
	}
	b.accelerator, err = machine.Probe(t.Context(), b.sdk)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("accelerator: %v", b.accelerator)
	programs := t.TempDir()
	b.workshop = sync.OnceValues(func() (workshop, error) { return b.openWorkshop(programs) })

	// The keys are enrolled once: every script gets a copy of that firmware,
	// and so costs one boot and not two.
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	b.template, err = machine.NewTemplate(ctx, b.sdk, b.accelerator, filepath.Join(t.TempDir(), "template"), b.image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.template.Close() })
	b.variant = b.variants(t)
	b.provisioned = b.provision(t)

	testscript.Run(t, testscript.Params{Dir: "testdata", Cmds: commands(), Setup: b.setup})
	// A campaign tries again what is drawn by chance.
	for i := range buildtest.Campaign(t) {
		t.Run(fmt.Sprintf("campaign %d", i), func(t *testing.T) {
			t.Parallel()
			testscript.Run(t, testscript.Params{Files: []string{"testdata/heals.txtar"}, Cmds: commands(), Setup: b.setup})
		})
	}
}

// stage is one script's machine.
type stage struct {
	*bench
	env     *testscript.Env
	folder  *machine.Folder
	machine *machine.Machine
}

type stageKey struct{}

func (b *bench) setup(env *testscript.Env) error {
	b.places <- struct{}{}
	env.Defer(func() { <-b.places })
	s := &stage{bench: b, env: env}
	env.Defer(s.leave)
	env.Values[stageKey{}] = s
	kills := "kill"
	if os.Getenv("CLOISON_KILLS") == "long" {
		kills = "kill-long"
	}
	env.Vars = append(env.Vars,
		"KILLS="+kills,
		"VERSION="+b.facts.Version,
		fmt.Sprint("SECURITY_VERSION=", b.facts.SecurityVersion),
		fmt.Sprint("NEXT_SECURITY_VERSION=", b.facts.SecurityVersion+1),
		"UKI=EFI/Linux/cloison_"+b.facts.Version+"+3.efi",
		"ROOTHASH="+b.facts.Core.RootHash,
		"PCR11="+b.facts.UKI.PCR11,
		"RECOVERY_PCR11="+b.facts.UKI.Recovery.PCR11,
		fmt.Sprint("HASH_OFFSET=", b.facts.Core.HashOffset),
		fmt.Sprint("TREE_SIZE=", b.facts.Core.FECOffset-b.facts.Core.HashOffset),
		fmt.Sprint("CORE_SIZE=", b.facts.Core.Size),
		fmt.Sprint("HALF_CORE=", b.facts.Core.Size/2/4096*4096),
		"KEYS="+b.keys,
	)
	return nil
}

// leave ends the machine and forgets its folder.
func (s *stage) leave() {
	if s.machine != nil {
		s.machine.Close()
		s.machine = nil
	}
	if s.folder != nil {
		s.folder.Close()
		s.folder = nil
	}
}
