package peer_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloison/format/authenticode"
	"cloison/format/pcr"
	"cloison/format/release"
	"cloison/format/uki"
	"cloison/host/keys"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

const (
	stubPath   = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	loaderPath = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
)

// ukiSections are sections of sizes around the alignments, in an order of
// their own; the loader stands for a kernel, being a PE program too.
func ukiSections(t *testing.T, tools *sdk.SDK) []uki.Section {
	t.Helper()
	return []uki.Section{
		{Name: ".osrel", Data: []byte("ID=cloison\nVERSION_ID=0.1.0\n")},
		{Name: ".cmdline", Data: []byte("console=ttyS0 cloison.version=0.1.0")},
		{Name: ".uname", Data: []byte("7.3.0-cloison")},
		{Name: ".pcrpkey", Data: []byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n")},
		{Name: ".initrd", Data: bytes.Repeat([]byte("initramfs"), 12345)},
		{Name: ".ucode", Data: make([]byte, 512)},
		{Name: ".linux", Data: readFile(t, tools.Path(loaderPath))},
		{Name: ".pcrsig", Data: []byte(`{"sha256":[]}`)},
		{Name: ".profile", Data: []byte("ID=main\n")},
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// tool runs one program of the SDK over files of dir and returns what it
// printed on both streams.
func tool(tools *sdk.SDK, dir string, args ...string) (string, error) {
	var out bytes.Buffer
	err := tools.Run(context.Background(), sdk.Step{Args: args, Dir: dir, Writable: []string{dir}, Stdout: &out, Stderr: &out})
	return out.String(), err
}

func mustTool(t *testing.T, tools *sdk.SDK, dir string, args ...string) string {
	t.Helper()
	out, err := tool(tools, dir, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, out)
	}
	return out
}

func buildUKI(t *testing.T, tools *sdk.SDK) []byte {
	t.Helper()
	image, err := uki.Build(readFile(t, tools.Path(stubPath)), ukiSections(t, tools))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestUKIInspect: ukify and objdump see the sections that were put in.
func TestUKIInspect(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	image := buildUKI(t, tools)
	writeFile(t, dir, "image.efi", image)
	var got map[string]struct {
		Size   int    `json:"size"`
		SHA256 string `json:"sha256"`
		Text   string `json:"text"`
	}
	out, err := tools.Output(context.Background(), sdk.Step{Args: []string{"ukify", "inspect", "image.efi", "--json=short"}, Dir: dir, ReadOnly: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	headers := mustTool(t, tools, dir, "objdump", "-h", "image.efi")
	for _, s := range ukiSections(t, tools) {
		want := fmt.Sprintf("%d %s", len(s.Data), hexSHA256(s.Data))
		if text := fmt.Sprintf("%d %s", got[s.Name].Size, got[s.Name].SHA256); text != want {
			t.Errorf("ukify inspect %s = %s, want %s", s.Name, text, want)
		}
		if !strings.Contains(headers, fmt.Sprintf(" %s ", s.Name)) {
			t.Errorf("objdump -h does not show %s:\n%s", s.Name, headers)
		}
	}
}

// TestUKISame: what ukify builds of the same parts has the same sections as
// ours, and the same PCR 11. Only .sbat may differ: ukify merges that of the
// kernel into the stub's, and our kernel has none.
func TestUKISame(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	args := []string{"ukify", "build", "--stub=/" + stubPath, "--output=peer.efi"}
	var sections []uki.Section
	for _, s := range ukiSections(t, tools) {
		option := strings.TrimPrefix(s.Name, ".")
		switch s.Name {
		case ".pcrsig", ".pcrpkey", ".ucode", ".profile": // ukify wants real keys, merges microcode by rules of its own, and takes an image that has only one profile for a part of another
			continue
		case ".osrel":
			option = "os-release"
		}
		sections = append(sections, s)
		writeFile(t, dir, option, s.Data)
		value := "@" + option
		switch s.Name {
		case ".linux", ".initrd":
			value = option
		case ".uname":
			value = string(s.Data)
		}
		args = append(args, "--"+option+"="+value)
	}
	mustTool(t, tools, dir, args...)
	peer, err := uki.Parse(readFile(t, filepath.Join(dir, "peer.efi")))
	if err != nil {
		t.Fatal(err)
	}
	image, err := uki.Build(readFile(t, tools.Path(stubPath)), sections)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := uki.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range peer {
		if s.Name == ".sbat" {
			for j := range ours {
				if ours[j].Name == ".sbat" {
					peer[i].Data = ours[j].Data
				}
			}
		}
	}
	if got, want := pcr.UKI(ours), pcr.UKI(peer); got != want {
		t.Errorf("PCR 11 of ours = %x, of ukify's = %x", got, want)
	}
	describe := func(sections []uki.Section) []string {
		var out []string
		for _, s := range sections {
			out = append(out, fmt.Sprintf("%s %d %s", s.Name, len(s.Data), hexSHA256(s.Data)))
		}
		slices.Sort(out)
		return out
	}
	if got, want := describe(ours), describe(peer); !slices.Equal(got, want) {
		t.Errorf("sections of ours:\n%s\nof ukify's:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestUKIProfiles: an image with two profiles is the one that ukify joins of the
// same parts, and systemd-measure predicts PCR 11 of each as we do.
func TestUKIProfiles(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	base := []uki.Section{
		{Name: ".osrel", Data: []byte("ID=cloison\n")},
		{Name: ".cmdline", Data: []byte("quiet")},
		{Name: ".linux", Data: readFile(t, tools.Path(loaderPath))},
	}
	mine := []uki.Section{{Name: ".profile", Data: []byte("ID=main\n")}}
	theirs := []uki.Section{{Name: ".profile", Data: []byte("ID=other\nTITLE=Other\n")}, {Name: ".cmdline", Data: []byte("verbose")}}
	image, err := uki.Build(readFile(t, tools.Path(stubPath)), slices.Concat(base, mine, theirs))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slices.Concat(base, mine) {
		writeFile(t, dir, strings.TrimPrefix(s.Name, "."), s.Data)
	}
	writeFile(t, dir, "other.profile", theirs[0].Data)
	writeFile(t, dir, "other.cmdline", theirs[1].Data)
	mustTool(t, tools, dir, "ukify", "build", "--profile=@other.profile", "--cmdline=@other.cmdline", "--output=other.efi")
	mustTool(t, tools, dir, "ukify", "build", "--stub=/"+stubPath, "--output=peer.efi",
		"--os-release=@osrel", "--cmdline=@cmdline", "--uname=x", "--linux=linux", "--profile=@profile", "--join-profile=other.efi")
	ours, err := uki.Parse(image)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := uki.Parse(readFile(t, filepath.Join(dir, "peer.efi")))
	if err != nil {
		t.Fatal(err)
	}
	// ukify wants a .uname, and puts a .sbat of its own.
	describe := func(profile []uki.Section) (out []string) {
		for _, s := range profile {
			if s.Name != ".uname" && s.Name != ".sbat" {
				out = append(out, fmt.Sprintf("%s %d %s", s.Name, len(s.Data), hexSHA256(s.Data)))
			}
		}
		slices.Sort(out)
		return out
	}
	got, want := uki.Profiles(ours), uki.Profiles(peer)
	if len(got) != 2 || len(want) != 2 {
		t.Fatalf("ours has %d profiles, ukify's %d, want 2", len(got), len(want))
	}
	for i := range got {
		if !slices.Equal(describe(got[i]), describe(want[i])) {
			t.Errorf("profile %d of ours:\n%s\nof ukify's:\n%s", i, strings.Join(describe(got[i]), "\n"), strings.Join(describe(want[i]), "\n"))
		}
		args := []string{"/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--json=short", "--phase=:"}
		for _, s := range got[i] {
			name := strings.TrimPrefix(s.Name, ".")
			args = append(args, "--"+name+"="+writeFile(t, dir, name, s.Data))
		}
		out, err := tools.Output(context.Background(), sdk.Step{Args: args, ReadOnly: []string{dir}})
		if err != nil {
			t.Fatal(err)
		}
		if p := pcr.UKI(got[i]); !bytes.Contains(out, []byte(hex.EncodeToString(p[:]))) {
			t.Errorf("PCR 11 of profile %d = %x, systemd-measure gives %s", i, p, out)
		}
	}
	// What ukify itself calls a profile.
	if out := mustTool(t, tools, dir, "ukify", "inspect", "peer.efi"); strings.Count(out, ".profile") != 2 {
		t.Errorf("ukify inspect shows other than two profiles:\n%s", out)
	}
	writeFile(t, dir, "ours.efi", image)
	if out := mustTool(t, tools, dir, "ukify", "inspect", "ours.efi"); strings.Count(out, ".profile") != 2 {
		t.Errorf("ukify inspect of ours shows other than two profiles:\n%s", out)
	}
}

// TestPCR11 compares the prediction with that of systemd-measure, after each
// phase.
func TestPCR11(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	sections, err := uki.Parse(buildUKI(t, tools))
	if err != nil {
		t.Fatal(err)
	}
	phases := []string{pcr.EnterInitrd, pcr.LeaveInitrd, pcr.SysInit, pcr.Ready}
	paths := []string{":"}
	for i := range phases {
		paths = append(paths, strings.Join(phases[:i+1], ":"))
	}
	for _, test := range []struct {
		name string
		skip string // a section left out
	}{
		{"all", ""},
		{"no .ucode", ".ucode"},
		{"no .profile", ".profile"},
		{"no .sbat", ".sbat"},
		{"no .pcrpkey", ".pcrpkey"},
	} {
		t.Run(test.name, func(t *testing.T) {
			measured := slices.DeleteFunc(slices.Clone(sections), func(s uki.Section) bool { return s.Name == test.skip })
			for i, p := range systemdMeasure(t, tools, dir, measured, paths) {
				got := pcr.Phases(pcr.UKI(measured), phases[:i]...)
				if hex.EncodeToString(got[:]) != p.PCR11 {
					t.Errorf("PCR 11 after %q = %x, want %s", p.Path, got, p.PCR11)
				}
			}
		})
	}
}

// systemdMeasure has systemd-measure predict PCR 11 of a UKI's sections, after
// each path of phases.
func systemdMeasure(t *testing.T, tools *sdk.SDK, dir string, sections []uki.Section, paths []string) []release.Phase {
	t.Helper()
	args := []string{"/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--json=short"}
	for _, p := range paths {
		args = append(args, "--phase="+p)
	}
	for _, s := range sections {
		if s.Name == ".pcrsig" { // signs the value, and so is not measured
			continue
		}
		name := strings.TrimPrefix(s.Name, ".")
		args = append(args, "--"+name+"="+writeFile(t, dir, name, s.Data))
	}
	out, err := tools.Output(context.Background(), sdk.Step{Args: args, ReadOnly: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		SHA256 []struct {
			Phase string `json:"phase"`
			Hash  string `json:"hash"`
		} `json:"sha256"`
	}
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(said.SHA256) != len(paths) {
		t.Fatalf("systemd-measure gave %d values, want %d: %s", len(said.SHA256), len(paths), out)
	}
	var phases []release.Phase
	for _, p := range said.SHA256 {
		phases = append(phases, release.Phase{Path: p.Phase, PCR11: p.Hash})
	}
	return phases
}

// TestSignPE: sbverify takes what we sign and refuses a stranger's
// certificate and a changed byte; we take what sbsign signs.
func TestSignPE(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	st, folder := developmentKeys(t), keyFolder(t)
	db := filepath.Join(folder, "db.pem")
	stranger := certificatePEM(t, st, keys.KEK)
	images := map[string][]byte{
		"loader": readFile(t, tools.Path(loaderPath)),
		"stub":   readFile(t, tools.Path(stubPath)),
		"uki":    buildUKI(t, tools),
		// As an image whose length is no multiple of 8: signing pads it.
		"tail": append(readFile(t, tools.Path(loaderPath)), "tail"...),
	}
	writeFile(t, dir, "db.pem", readFile(t, db))
	writeFile(t, dir, "stranger.pem", stranger)
	for name, image := range images {
		t.Run(name, func(t *testing.T) {
			signed, err := keys.SignPE(st, image)
			if err != nil {
				t.Fatal(err)
			}
			again, err := keys.SignPE(st, image)
			if err != nil || !bytes.Equal(signed, again) {
				t.Errorf("SignPE() differs from one call to the next: %v", err)
			}
			if err := keys.VerifyPE(st, signed); err != nil {
				t.Error(err)
			}
			file := name + ".efi"
			writeFile(t, dir, file, signed)
			if out := mustTool(t, tools, dir, "sbverify", "--cert", "db.pem", file); !strings.Contains(out, "Signature verification OK") {
				t.Errorf("sbverify = %s", out)
			}
			if out, err := tool(tools, dir, "sbverify", "--cert", "stranger.pem", file); err == nil {
				t.Errorf("sbverify with a stranger's certificate = %s, want a refusal", out)
			}
			checkSum(t, tools, dir, file)
			for _, at := range []int{0x40 + 8, len(image) / 2, len(image) - 1} {
				changed := bytes.Clone(signed)
				changed[at] ^= 1
				writeFile(t, dir, "changed.efi", changed)
				if out, err := tool(tools, dir, "sbverify", "--cert", "db.pem", "changed.efi"); err == nil {
					t.Errorf("sbverify of an image changed at %#x = %s, want a refusal", at, out)
				}
				if err := keys.VerifyPE(st, changed); err == nil {
					t.Errorf("VerifyPE of an image changed at %#x = nil, want a refusal", at)
				}
			}
		})
	}
}

// checkSum has the pefile library of ukify check the CheckSum field.
func checkSum(t *testing.T, tools *sdk.SDK, dir, file string) {
	t.Helper()
	mustTool(t, tools, dir, "python3", "-c", "import pefile,sys; p=pefile.PE(sys.argv[1],fast_load=True); sys.exit(0 if p.verify_checksum() else 'bad checksum %#x, want %#x' % (p.OPTIONAL_HEADER.CheckSum, p.generate_checksum()))", file)
}

// TestSBSign: a signature of sbsign is one that we accept, for the same
// digest, and only with its certificate.
func TestSBSign(t *testing.T) {
	tools, dir := sdktest.Open(t), t.TempDir()
	st := developmentKeys(t)
	image := buildUKI(t, tools)
	writeFile(t, dir, "image.efi", image)
	for _, name := range []string{"db.key", "db.pem"} {
		writeFile(t, dir, name, readFile(t, filepath.Join(keyFolder(t), name)))
	}
	mustTool(t, tools, dir, "sbsign", "--key", "db.key", "--cert", "db.pem", "--output", "signed.efi", "image.efi")
	signed := readFile(t, filepath.Join(dir, "signed.efi"))
	if err := keys.VerifyPE(st, signed); err != nil {
		t.Error(err)
	}
	if err := authenticode.Verify(signed, nil); err == nil {
		t.Error("Verify(no certificates) = nil, want a refusal")
	}
	kek := certificatePEM(t, st, keys.KEK)
	cert, err := keys.ParseCertificate("KEK.pem", kek)
	if err != nil {
		t.Fatal(err)
	}
	if err := authenticode.Verify(signed, certificates(cert)); err == nil {
		t.Error("Verify(KEK) = nil, want a refusal")
	}
	before, err := authenticode.Digest(image)
	if err != nil {
		t.Fatal(err)
	}
	after, err := authenticode.Digest(signed)
	if err != nil || before != after {
		t.Errorf("Digest() = %x before signing, %x after, %v", before, after, err)
	}
}

// certificatePEM returns the certificate of a role as PEM.
func certificatePEM(t *testing.T, st keys.Store, r keys.Role) []byte {
	t.Helper()
	cert, err := st.Certificate(r)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}
