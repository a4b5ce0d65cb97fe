package verify_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cloison/format/cpio"
	"cloison/format/hint"
	"cloison/format/release"
	"cloison/format/service"
	"cloison/format/uki"
	"cloison/host/build"
	"cloison/host/disk"
	"cloison/host/keys"
	"cloison/host/sdk"
	"cloison/host/serviceroot"
	"cloison/host/verify"
)

func unix(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }

func hashOf(what string) []byte {
	sum := sha256.Sum256([]byte(what))
	return sum[:16]
}

func options(t testing.TB, st keys.Store, path string) verify.Options {
	t.Helper()
	o := verify.Options{Path: path}
	var err error
	o.DB, err = st.Certificate(keys.DB)
	check(t, err)
	o.Release, err = st.Certificate(keys.Release)
	check(t, err)
	o.Policy, err = st.Certificate(keys.Policy)
	check(t, err)
	o.PK, err = st.Certificate(keys.PK)
	check(t, err)
	o.KEK, err = st.Certificate(keys.KEK)
	check(t, err)
	return o
}

// failed returns the names of the checks that failed, each once, sorted.
func failed(r *verify.Report) []string {
	var names []string
	for _, c := range r.Checks {
		if !c.OK {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// compiled are programs that clang really made.
func compiled(t testing.TB, tools *sdk.SDK) (dynamic, weak []byte) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.c"), []byte("int main(void) { return 0; }\n"))
	for name, args := range map[string][]string{
		"dynamic": {"-pie", "-Wl,-z,relro,-z,now"}, "weak": {"-static", "-no-pie", "-Wl,-z,norelro"},
	} {
		check(t, tools.Run(context.Background(), sdk.Step{
			Args: append([]string{"clang-22", "-fuse-ld=lld", "-fPIE", "main.c", "-o", name}, args...), Dir: dir, Writable: []string{dir},
		}))
	}
	return read(t, filepath.Join(dir, "dynamic")), read(t, filepath.Join(dir, "weak"))
}

// add returns a change that puts one more file into the core.
func add(h tar.Header, data []byte) func(*[]entry) {
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	return func(files *[]entry) { *files = append(*files, entry{h, data}) }
}

// core changes one file that is there.
func core(name string, change func(*entry)) func(*[]entry) {
	return func(files *[]entry) {
		for i := range *files {
			if (*files)[i].Name == name {
				change(&(*files)[i])
				return
			}
		}
		panic("no file " + name)
	}
}

// console is the folder of a service that is there.
const console = "usr/lib/cloison/services/console"

// boxed adds a service whose program is one of the SDK, but for the files that
// without names.
func boxed(t testing.TB, tools *sdk.SDK, program string, without func(name string) bool) func(*[]entry) {
	t.Helper()
	s := &service.Service{
		Name: "boxed", About: "is of the SDK", ID: 999, Program: program, Stdio: service.Log, Network: service.None, Proc: service.None,
		Seccomp: service.Seccomp{Groups: []string{"runtime", "libraries"}},
		Limits:  service.Limits{Memory: 32 << 20, Processes: 32, CPU: 100, Descriptors: 32},
		Start:   service.Start{Ready: service.Started, Timeout: service.Duration(time.Minute), Restart: service.Never, Stop: service.Duration(time.Second)},
	}
	files, err := serviceroot.Files(s, nil, tools.Root)
	check(t, err)
	return func(all *[]entry) {
		for _, f := range files {
			if without != nil && without(f.Name) {
				continue
			}
			e := entry{Header: tar.Header{Name: f.Name, Mode: int64(f.Mode.Perm()), Typeflag: tar.TypeReg}, data: f.Data}
			if f.Mode.IsDir() {
				e.Typeflag = tar.TypeDir
			}
			if f.From != "" {
				e.data = read(t, f.From)
			}
			*all = append(*all, e)
		}
	}
}

func flip(data []byte, at int) { data[at] ^= 0x01 }

func replace(data []byte, old, now string) []byte {
	if !bytes.Contains(data, []byte(old)) {
		panic("no " + old)
	}
	return bytes.Replace(data, []byte(old), []byte(now), 1)
}

// otherRoot changes one digit of the root hash.
func otherRoot(line string) string {
	before, after, _ := strings.Cut(line, "roothash=")
	digit := "0"
	if after[0] == '0' {
		digit = "1"
	}
	return before + "roothash=" + digit + after[1:]
}

func withSwap(line string) string {
	return strings.Replace(line, " cloison.fec_roots=2", " cloison.fec_roots=2 cloison.swap=1", 1)
}

// relabel changes partition 3 in the primary table, or in both, with right
// checksums.
func relabel(whole []byte, both bool, change func(entry []byte)) {
	const sector, entries, size = 512, 128, 128
	le := binary.LittleEndian
	headers := []int{sector}
	if both {
		headers = append(headers, len(whole)-sector)
	}
	for _, at := range headers {
		h := whole[at:][:92]
		table := whole[le.Uint64(h[72:])*sector:][:entries*size]
		change(table[2*size:][:size])
		le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
		le.PutUint32(h[16:], 0)
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	}
}

// TestTampering: each build is wrong in one thing, and everything that depends
// on it is made to fit; verify names that thing and nothing else.
func TestTampering(t *testing.T) {
	o := open(t)
	stranger := filepath.Join(t.TempDir(), "keys")
	check(t, keys.Init(stranger, true, time.Now()))
	strange, err := keys.OpenDir(stranger)
	check(t, err)
	dynamic, weak := compiled(t, o.tools)
	var init []byte
	for _, f := range o.init {
		if f.Name == "init" {
			init = f.Data
		}
	}
	shell := read(t, o.tools.Path("usr/lib/systemd/boot/efi/systemd-bootx64.efi"))
	strangeAuth, err := keys.AuthFiles(strange, unix(epoch))
	check(t, err)

	for _, test := range []struct {
		name   string
		change changes
		want   []string
	}{
		{name: "untouched"},

		// The core.
		{"setuid", changes{core: core("usr/lib/cloison/init", func(e *entry) { e.Mode = 0o4555 })}, []string{verify.SetID}},
		{"setgid folder", changes{core: core("usr", func(e *entry) { e.Mode = 0o2555 })}, []string{verify.SetID}},
		{"file writable by others", changes{core: core("etc/os-release", func(e *entry) { e.Mode = 0o446 })}, []string{verify.Writable}},
		{"folder writable by others", changes{core: core("tmp", func(e *entry) { e.Mode = 0o777 })}, []string{verify.Writable}},
		{"writable by its group", changes{core: core("tmp", func(e *entry) { e.Mode = 0o575 })}, []string{verify.Writable}},
		{"owner", changes{core: core("usr", func(e *entry) { e.Uid = 1000 })}, []string{verify.Owner}},
		{"group", changes{core: core("usr", func(e *entry) { e.Gid = 5 })}, []string{verify.Owner}},
		{"device", changes{core: add(tar.Header{Name: "dev/mem", Typeflag: tar.TypeChar, Mode: 0o600, Devmajor: 1, Devminor: 1}, nil)}, []string{verify.FileTypes}},
		{"fifo", changes{core: add(tar.Header{Name: "run/fifo", Typeflag: tar.TypeFifo, Mode: 0o600}, nil)}, []string{verify.FileTypes}},
		{"capability", changes{core: core("usr/lib/cloison/init", func(e *entry) {
			e.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"}
		})}, []string{verify.Attributes}},
		{"shell by name", changes{core: add(tar.Header{Name: "usr/bash", Mode: 0o555}, init)}, []string{verify.NoInterpreter}},
		{"interpreter with a version", changes{core: add(tar.Header{Name: "usr/python3.13", Mode: 0o444}, nil)}, []string{verify.NoInterpreter}},
		{"link called sh", changes{core: add(tar.Header{Name: "sh", Typeflag: tar.TypeSymlink, Linkname: "usr/lib/cloison/init", Mode: 0o777}, nil)}, []string{verify.NoInterpreter}},
		{"dynamic program", changes{core: add(tar.Header{Name: "usr/tool", Mode: 0o555}, dynamic)}, []string{verify.NoInterpreter}},
		{"script, not executable", changes{core: add(tar.Header{Name: "usr/script", Mode: 0o444}, []byte("#!/usr/tool\n"))}, []string{verify.NoInterpreter}},
		{"script", changes{core: add(tar.Header{Name: "usr/script", Mode: 0o555}, []byte("#!/usr/tool\n"))}, []string{verify.NoInterpreter, verify.Executables}},
		{"executable data", changes{core: add(tar.Header{Name: "usr/data", Mode: 0o555}, []byte("MZ"))}, []string{verify.Executables}},
		{"compiler", changes{core: add(tar.Header{Name: "usr/gcc-14", Mode: 0o555}, init)}, []string{verify.NoToolchain}},
		{"shell among the tools", changes{core: add(tar.Header{Name: "usr/lib/cloison/storage/usr/sbin/bash", Mode: 0o555}, init)}, []string{verify.NoInterpreter}},
		{"stranger among the tools", changes{core: add(tar.Header{Name: "usr/lib/cloison/storage/usr/sbin/tool", Mode: 0o555}, dynamic)}, []string{verify.NoInterpreter}},
		{"packager", changes{core: add(tar.Header{Name: "usr/dpkg", Mode: 0o555}, init)}, []string{verify.NoToolchain}},
		{"weak program", changes{core: add(tar.Header{Name: "usr/tool", Mode: 0o444}, weak)}, []string{verify.Hardening}},
		{"broken program", changes{core: add(tar.Header{Name: "usr/tool", Mode: 0o444}, init[:100])}, []string{verify.Hardening}},

		// The services.
		{"file in a root", changes{core: add(tar.Header{Name: console + "/root/etc/hosts", Mode: 0o444}, nil)}, []string{verify.Services}},
		{"file beside a root", changes{core: add(tar.Header{Name: console + "/notes", Mode: 0o444}, nil)}, []string{verify.Services}},
		{"folder in a root", changes{core: add(tar.Header{Name: console + "/root/tmp", Typeflag: tar.TypeDir, Mode: 0o555}, nil)}, []string{verify.Services}},
		{"program that can be read", changes{core: core(console+"/root/usr/lib/cloison/console", func(e *entry) { e.Mode = 0o555 })}, []string{verify.Services}},
		{"declaration with a number of its own", changes{core: core(console+"/declaration", func(e *entry) { e.data = replace(e.data, "cpu=", "cpu=0") })}, []string{verify.Services}},
		{"declaration of another", changes{core: core(console+"/declaration", func(e *entry) { e.data = replace(e.data, "name=console", "name=other") })}, []string{verify.Services}},
		{"right that no service can have", changes{core: core(console+"/declaration", func(e *entry) {
			e.data = replace(e.data, "capability#=0\n", "capability#=1\nname=CAP_SYS_ADMIN\nwhy=x\n")
		})}, []string{verify.Services}},
		{"socket that nobody provides", changes{core: func(files *[]entry) {
			core(console+"/declaration", func(e *entry) {
				s, err := service.Parse(string(e.data))
				check(t, err)
				s.Uses = append(s.Uses, "other/socket")
				text, err := s.Print()
				check(t, err)
				e.data = []byte(text)
			})(files)
			add(tar.Header{Name: console + "/root/run/services/other/socket", Mode: 0o444}, nil)(files)
		}}, []string{verify.Services}},
		{"service in a network that is not there", changes{core: core(console+"/declaration", func(e *entry) { e.data = replace(e.data, "network=none", "network=outer") })}, []string{verify.Services}},
		{"networks that are none", changes{core: core("usr/lib/cloison/networks", func(e *entry) { e.data = append(e.data, "network none x\n"...) })}, []string{verify.Services}},
		{"service without a program", changes{core: func(files *[]entry) {
			*files = slices.DeleteFunc(*files, func(e entry) bool { return e.Name == console+"/root/usr/lib/cloison/console" })
		}}, []string{verify.Services}},
		{"C program in a box", changes{core: boxed(t, o.tools, "/usr/sbin/mke2fs", nil)}, nil},
		{"C program without a library", changes{core: boxed(t, o.tools, "/usr/sbin/mke2fs", func(name string) bool { return strings.Contains(name, "libext2fs") })}, []string{verify.Hardening, verify.NoInterpreter, verify.Services}},
		{"C program with another's library", changes{core: func(files *[]entry) {
			boxed(t, o.tools, "/usr/sbin/mke2fs", nil)(files)
			add(tar.Header{Name: "usr/lib/cloison/services/boxed/root/usr/lib/libother.so", Mode: 0o444}, dynamic)(files)
		}}, []string{verify.NoInterpreter, verify.Services}},
		{"interpreter in a box", changes{core: boxed(t, o.tools, "/usr/bin/perl", nil)}, []string{verify.Hardening, verify.NoInterpreter, verify.Services}},

		{"data block", changes{image: func(b []byte) { flip(b, len(b)/2) }}, []string{verify.Slot, verify.VerityTree, verify.FEC}},
		{"parity", changes{image: func(b []byte) { flip(b, len(b)-1) }}, []string{verify.Slot, verify.FEC}},
		{"behind the core", changes{disk: func(b []byte, l disk.Layout) { flip(b, int(l.CoreA.Offset+l.CoreA.Size-1)) }}, []string{verify.Slot}},

		// What boots.
		{"weak /init", changes{init: func(f *[]cpio.File) { *f = append(*f, cpio.File{Name: "tool", Mode: cpio.Regular | 0o555, Data: weak}) }}, []string{verify.Hardening}},
		{"shell in the initramfs", changes{init: func(f *[]cpio.File) {
			*f = append(*f, cpio.File{Name: "busybox", Mode: cpio.Regular | 0o555, Data: init})
		}}, []string{verify.NoInterpreter}},
		{"writable file in the initramfs", changes{init: func(f *[]cpio.File) { *f = append(*f, cpio.File{Name: "data", Mode: cpio.Regular | 0o666}) }}, []string{verify.Initramfs}},
		{"no /init", changes{init: func(f *[]cpio.File) {
			*f = slices.DeleteFunc(*f, func(f cpio.File) bool { return f.Name == "init" })
		}}, []string{verify.Initramfs, verify.Hardening}},
		{"initramfs with more behind", changes{initrd: func(b []byte) []byte { return append(b, compress(t, []byte("070701"))...) }}, []string{verify.Initramfs}},
		{"another /cmdline", changes{init: func(f *[]cpio.File) {
			for i := range *f {
				if (*f)[i].Name == "cmdline" {
					(*f)[i].Data = append(bytes.Clone((*f)[i].Data), ' ')
				}
			}
		}}, []string{verify.CommandLine}},
		{"swap", changes{line: withSwap, swap: 16}, nil},
		{"swap without its partition", changes{line: withSwap}, []string{verify.Partitions}},
		{"another root hash", changes{line: otherRoot}, []string{verify.CommandLine, verify.Slot}},
		{"another root hash everywhere", changes{line: otherRoot, manifest: func(m *release.Manifest) {
			_, after, _ := strings.Cut(m.UKI.Cmdline, "roothash=")
			m.Core.RootHash = after[:64]
		}}, []string{verify.Slot, verify.VerityTree, verify.FEC, verify.FileSystem}},
		{"another version", changes{sections: func(s *[]uki.Section) {
			for i := range *s {
				if (*s)[i].Name == ".osrel" {
					(*s)[i].Data = replace((*s)[i].Data, "VERSION_ID=0.1.0", "VERSION_ID=0.2.0")
				}
			}
		}}, []string{verify.UKI}},
		{"another section", changes{sections: func(s *[]uki.Section) {
			*s = append([]uki.Section{{Name: ".splash", Data: []byte("BM")}}, *s...)
		}}, []string{verify.UKI}},
		{"a section of one profile", changes{sections: func(s *[]uki.Section) {
			*s = append(*s, uki.Section{Name: ".cmdline", Data: []byte("init=/bin/sh")})
		}}, []string{verify.Profiles}},
		{"TPM policy for the recovery profile", changes{keepPolicy: true, sections: func(s *[]uki.Section) {
			*s = append(*s, uki.Section{Name: ".pcrsig", Data: []byte("{}")})
		}}, []string{verify.Profiles, verify.TPMPolicy}},
		{"no recovery profile", changes{sections: func(s *[]uki.Section) { *s = (*s)[:len(*s)-2] }}, []string{verify.Profiles}},
		{"profiles in another order", changes{sections: func(s *[]uki.Section) {
			last := len(*s) - 2 // and its .osrel
			(*s)[last].Data, (*s)[last-1].Data = (*s)[last-1].Data, (*s)[last].Data
		}}, []string{verify.Profiles}},
		{"a third profile", changes{sections: func(s *[]uki.Section) {
			*s = append(*s, uki.Section{Name: ".profile", Data: []byte("ID=main\n")})
		}}, []string{verify.Profiles}},
		{"TPM policy of another image", changes{keepPolicy: true, sections: func(s *[]uki.Section) {
			for i := range *s {
				if (*s)[i].Name == ".uname" {
					(*s)[i].Data = append(bytes.Clone((*s)[i].Data), '1')
				}
			}
		}}, []string{verify.TPMPolicy}},
		{"TPM policy of a stranger", changes{keepPolicy: true, sections: func(s *[]uki.Section) { signFor(t, strange, *s) }}, []string{verify.TPMPolicy}},
		{"no TPM policy", changes{keepPolicy: true, sections: func(s *[]uki.Section) {
			*s = slices.DeleteFunc(*s, func(one uki.Section) bool { return one.Name == ".pcrsig" })
		}}, []string{verify.TPMPolicy}},
		{"another PCR 11", changes{manifest: func(m *release.Manifest) { m.UKI.PCR11 = strings.Repeat("0", 64) }}, []string{verify.PCR11}},
		{"another phase", changes{manifest: func(m *release.Manifest) {
			m.UKI.PhasesPCR11 = slices.Clone(m.UKI.PhasesPCR11)
			m.UKI.PhasesPCR11[1].PCR11 = strings.Repeat("0", 64)
		}}, []string{verify.PCR11}},
		{"another PCR 11 of the recovery profile", changes{manifest: func(m *release.Manifest) { m.UKI.Recovery.PCR11 = strings.Repeat("0", 64) }}, []string{verify.PCR11}},

		// The EFI system partition.
		{"UKI of a stranger", changes{signed: func(unsigned []byte) []byte {
			b, err := keys.SignPE(strange, unsigned)
			check(t, err)
			return b
		}}, []string{verify.Signature}},
		{"unsigned UKI", changes{signed: func(unsigned []byte) []byte { return unsigned }}, []string{verify.Signature}},
		{"unsigned loader", changes{esp: func(f map[string][]byte) { f[loaderPath] = shell }}, []string{verify.Signature}},
		{"changed loader", changes{esp: func(f map[string][]byte) { f[loaderPath] = bytes.Clone(f[loaderPath]); flip(f[loaderPath], 5000) }}, []string{verify.Signature}},
		{"no loader", changes{esp: func(f map[string][]byte) { delete(f, loaderPath) }}, []string{verify.ESPFiles}},
		{"unsigned program", changes{esp: func(f map[string][]byte) { f["shellx64.efi"] = shell }}, []string{verify.ESPFiles, verify.Signature}},
		{"unsigned program by another name", changes{esp: func(f map[string][]byte) { f["loader/notes.txt"] = shell }}, []string{verify.ESPFiles, verify.Signature}},
		{"signed program, unexpected", changes{esp: func(f map[string][]byte) { f["loader/old.dat"] = o.loader }}, []string{verify.ESPFiles}},
		{"add-on", changes{esp: func(f map[string][]byte) { f[ukiPath+".extra.d/a.cred"] = []byte("x") }}, []string{verify.ESPFiles}},
		{"loader entry", changes{esp: func(f map[string][]byte) { f["loader/entries/a.conf"] = []byte("linux /a\noptions init=/bin/sh\n") }}, []string{verify.ESPFiles}},
		{"second UKI", changes{esp: func(f map[string][]byte) { f["EFI/Linux/cloison_0.1.0.efi"] = f[ukiPath] }}, []string{verify.ESPFiles}},
		{"editor on", changes{esp: func(f map[string][]byte) { f["loader/loader.conf"] = []byte("editor yes\n") }}, []string{verify.LoaderConf}},
		{"editor not named", changes{esp: func(f map[string][]byte) { f["loader/loader.conf"] = []byte("timeout 1\n") }}, []string{verify.LoaderConf}},
		{"editor off, then on", changes{esp: func(f map[string][]byte) { f["loader/loader.conf"] = []byte("editor no\neditor 1\n") }}, []string{verify.LoaderConf}},
		{"no loader.conf", changes{esp: func(f map[string][]byte) { delete(f, "loader/loader.conf") }}, []string{verify.LoaderConf}},
		{"db of a stranger", changes{esp: func(f map[string][]byte) { f["loader/keys/auto/db.auth"] = strangeAuth.DB }}, []string{verify.Enrolment}},
		{"KEK of a stranger", changes{esp: func(f map[string][]byte) { f["loader/keys/auto/KEK.auth"] = strangeAuth.KEK }}, []string{verify.Enrolment}},
		{"allocation tables differ", changes{disk: func(b []byte, l disk.Layout) { flip(b, int(l.ESP.Offset)+32*512+40) }}, []string{verify.ESP}},

		// The partition table.
		{"backup table", changes{disk: func(b []byte, _ disk.Layout) { flip(b, len(b)-512+60) }}, []string{verify.Partitions, verify.ESP}},
		{"primary table", changes{disk: func(b []byte, _ disk.Layout) { flip(b, 512+60) }}, []string{verify.Partitions, verify.ESP}},
		{"tables differ", changes{disk: func(b []byte, _ disk.Layout) { relabel(b, false, func(e []byte) { e[16] ^= 1 }) }}, []string{verify.Partitions, verify.ESP}},
		{"label", changes{disk: func(b []byte, _ disk.Layout) { relabel(b, true, func(e []byte) { e[56] = 'x' }) }}, []string{verify.Partitions, verify.ESP}},
		{"type", changes{disk: func(b []byte, _ disk.Layout) { relabel(b, true, func(e []byte) { e[0] ^= 1 }) }}, []string{verify.Partitions, verify.ESP}},
		{"slot b missing", changes{disk: func(b []byte, _ disk.Layout) { relabel(b, true, func(e []byte) { clear(e) }) }}, []string{verify.Partitions, verify.ESP}},

		// The folder, by an outsider.
		{"changed manifest", changes{after: func(dir string) {
			path := filepath.Join(dir, build.ManifestName)
			write(t, path, replace(read(t, path), `"security_version": 1`, `"security_version": 2`))
		}}, []string{verify.ManifestSig, verify.TPMPolicy, verify.UKI}},
		{"manifest with an unknown field", changes{after: func(dir string) {
			path := filepath.Join(dir, build.ManifestName)
			write(t, path, replace(read(t, path), `"version"`, `"note": 1, "version"`))
		}}, []string{verify.ManifestSig, verify.Manifest}},
		{"manifest signed by a stranger", changes{after: func(dir string) {
			signature, err := keys.SignDocument(strange, read(t, filepath.Join(dir, build.ManifestName)))
			check(t, err)
			write(t, filepath.Join(dir, build.SignedName), signature)
		}}, []string{verify.ManifestSig}},
		{"changed core.img", changes{after: func(dir string) {
			b := read(t, filepath.Join(dir, build.CoreName))
			flip(b, 100)
			write(t, filepath.Join(dir, build.CoreName), b)
		}}, []string{verify.Digest, verify.Slot}},
		{"changed UKI file", changes{after: func(dir string) {
			path := filepath.Join(dir, build.UKIName("0.1.0"))
			b := read(t, path)
			flip(b, len(b)-1)
			write(t, path, b)
		}}, []string{verify.Digest, verify.UKI}},
		{"changed list of the SDK", changes{after: func(dir string) {
			lines := bytes.SplitAfter(read(t, filepath.Join(dir, build.LockName)), []byte("\n"))
			write(t, filepath.Join(dir, build.LockName), bytes.Join(lines[1:], nil))
		}}, []string{verify.SDKList}},
		{"truncated disk", changes{after: func(dir string) {
			check(t, os.Truncate(filepath.Join(dir, build.DiskName), 20<<20))
		}}, []string{verify.Digest, verify.Partitions, verify.ESP}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := verify.Run(t.Context(), options(t, o.store, o.assemble(t, test.change)))
			check(t, err)
			want := slices.Sorted(slices.Values(test.want))
			if got := failed(r); !slices.Equal(got, want) || r.OK != (len(want) == 0) {
				t.Errorf("failed checks = %q, want %q\n%s", got, want, r)
			}
		})
	}
}

// TestWrongKeys: the same build, held against the certificates of a stranger.
func TestWrongKeys(t *testing.T) {
	o := open(t)
	stranger := filepath.Join(t.TempDir(), "keys")
	check(t, keys.Init(stranger, true, time.Now()))
	strange, err := keys.OpenDir(stranger)
	check(t, err)
	r, err := verify.Run(t.Context(), options(t, strange, o.assemble(t, changes{})))
	check(t, err)
	if got, want := failed(r), []string{verify.Enrolment, verify.ManifestSig, verify.Signature, verify.TPMPolicy}; !slices.Equal(got, want) {
		t.Errorf("failed checks = %q, want %q\n%s", got, want, r)
	}
}

// TestDiskAlone: a disk without the folder around it.
func TestDiskAlone(t *testing.T) {
	o := open(t)
	dir := o.assemble(t, changes{})
	path := filepath.Join(dir, build.DiskName)
	with := options(t, o.store, path)
	with.Release, with.PK, with.KEK, with.Policy = nil, nil, nil, nil
	r, err := verify.Run(t.Context(), with)
	check(t, err)
	notes := strings.Join(r.Notes, "\n")
	if !r.OK || !strings.Contains(notes, "only a disk") || !strings.Contains(notes, "needs PK.pem") || !strings.Contains(notes, "needs policy.pem") || !strings.Contains(notes, "DEVELOPMENT BUILD") {
		t.Errorf("Run(disk) = %s", r)
	}
	check(t, os.Truncate(path, 20<<20))
	r, err = verify.Run(t.Context(), with)
	check(t, err)
	if got, want := failed(r), []string{verify.ESP, verify.Partitions}; !slices.Equal(got, want) {
		t.Errorf("truncated: failed checks = %q, want %q\n%s", got, want, r)
	}
}

// TestBadInput: what cannot be looked at is an error with advice.
func TestBadInput(t *testing.T) {
	o := open(t)
	whole := o.assemble(t, changes{})
	without := func(name string) string {
		dir := t.TempDir()
		entries, err := os.ReadDir(whole)
		check(t, err)
		for _, e := range entries {
			if e.Name() != name {
				check(t, os.Link(filepath.Join(whole, e.Name()), filepath.Join(dir, e.Name())))
			}
		}
		return dir
	}
	text := filepath.Join(t.TempDir(), "text")
	write(t, text, []byte("hello\n"))
	for _, test := range []struct{ name, path, want, hint string }{
		{"no such folder", filepath.Join(t.TempDir(), "none"), "it does not exist", "cloison build"},
		{"no disk", text, "it is no disk", "name the folder of a build"},
		{"empty folder", t.TempDir(), "manifest.json: no such file", "is not a finished build"},
		{"no signature", without(build.SignedName), "manifest.json.sig: no such file", "is not a finished build"},
		{"no core.img", without(build.CoreName), "core.img: no such file", "is not a finished build"},
		{"no disk.img", without(build.DiskName), "disk.img: no such file", "is not a finished build"},
		{"no UKI", without(build.UKIName("0.1.0")), "cloison_0.1.0.efi: no such file", "is not a finished build"},
		{"no list", without(build.LockName), "sdk.lock: no such file", "is not a finished build"},
	} {
		r, err := verify.Run(t.Context(), options(t, o.store, test.path))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(hint.Of(err), test.hint) {
			t.Errorf("%s: Run() = %v, %v, hint %q, want %q, %q", test.name, r, err, hint.Of(err), test.want, test.hint)
		}
	}
}
