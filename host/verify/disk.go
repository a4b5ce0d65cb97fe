package verify

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"cloison/format/authenticode"
	"cloison/format/efisig"
	"cloison/format/fat"
	"cloison/format/gpt"
	"cloison/format/hint"
)

const sectorSize = 512

// Paths on the EFI system partition that have a meaning.
const (
	loaderPath = "EFI/BOOT/BOOTX64.EFI"
	loaderTwin = "EFI/systemd/systemd-bootx64.efi"
	configPath = "loader/loader.conf"
	keysFolder = "loader/keys/auto/"
)

// ukiPath is how a UKI is called: its version, then how many tries it has
// left and has had (UAPI group, Automatic Boot Assessment).
var ukiPath = regexp.MustCompile(`^EFI/Linux/cloison_([^+_/]+)(\+[0-9]+(-[0-9]+)?)?\.efi$`)

// disk checks a disk image.
func (v *verifier) disk(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return missing(err, name)
	}
	defer f.Close() // only read from: nothing to lose
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("cannot verify %s: %w", name, err)
	}
	partitions, err := v.partitions(f, size)
	if v.manifest == nil && v.folder == "" && err != nil && !isDisk(f) {
		return hint.Wrap(fmt.Errorf("cannot verify %s: it is no disk: %w", name, err), "name the folder of a build, or its disk.img")
	}
	all := "esp, core-a, core-b, state"
	if _, swaps := partitions["swap"]; swaps {
		all += ", swap"
	}
	v.record(Partitions, path.Base(name), err, "primary and backup agree: %s", all)
	if err != nil {
		v.record(ESP, path.Base(name), errNotReached(Partitions), "")
		return nil
	}
	esp := partitions["esp"]
	volume, err := fat.Open(io.NewSectionReader(f, int64(esp.Start), int64(esp.Size)), int64(esp.Size))
	if err != nil {
		v.record(ESP, "partition esp", err, "")
		return nil
	}
	v.record(ESP, "partition esp", nil, "FAT32, %d files", len(volume.Files))
	files := map[string][]byte{}
	for _, file := range volume.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if files[file.Path], err = volume.ReadFile(file); err != nil {
			v.record(ESP, file.Path, err, "")
			return nil
		}
	}
	v.espFiles(volume.Files, files)
	for _, name := range names(volume.Files) {
		if ukiPath.MatchString(name) {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.boot(name, files[name], f, partitions)
		}
	}
	return nil
}

// isDisk reports whether there is a partition table at all, if a bad one.
func isDisk(f io.ReaderAt) bool {
	b := make([]byte, 8)
	_, err := f.ReadAt(b, sectorSize)
	return err == nil && string(b) == "EFI PART"
}

// withoutPrimary is a disk whose first sectors cannot be read, so that the
// backup table is what is found.
type withoutPrimary struct{ io.ReaderAt }

func (d withoutPrimary) ReadAt(b []byte, at int64) (int, error) {
	if at < 2*sectorSize {
		return 0, errors.New("not looked at")
	}
	return d.ReaderAt.ReadAt(b, at)
}

// partitions reads both tables and returns the partitions by label.
func (v *verifier) partitions(f io.ReaderAt, size int64) (map[string]gpt.Partition, error) {
	primary, err := gpt.Read(f, size, sectorSize)
	if err != nil {
		return nil, err
	}
	if primary.Backup {
		return nil, errors.New("the primary table is damaged")
	}
	backup, err := gpt.Read(withoutPrimary{f}, size, sectorSize)
	if err != nil {
		return nil, fmt.Errorf("the backup table is damaged: %w", err)
	}
	if primary.Disk != backup.Disk || !slices.Equal(primary.Partitions, backup.Partitions) {
		return nil, errors.New("the backup table says something else than the primary")
	}
	want := map[string]gpt.GUID{"esp": gpt.ESP, "core-a": gpt.Core, "core-b": gpt.Core, "state": gpt.State, "swap": gpt.Swap}
	found := map[string]gpt.Partition{}
	ids := map[gpt.GUID]bool{}
	for _, p := range primary.Partitions {
		kind, known := want[p.Label]
		_, twice := found[p.Label]
		switch {
		case !known:
			return nil, fmt.Errorf("partition %d has the label %q: nothing uses it", p.Number, p.Label)
		case twice || ids[p.ID]:
			return nil, fmt.Errorf("partition %d, %s, is there twice", p.Number, p.Label)
		case p.Type != kind:
			return nil, fmt.Errorf("partition %d, %s, is of type %s, want %s", p.Number, p.Label, p.Type, kind)
		}
		found[p.Label], ids[p.ID] = p, true
	}
	for label := range want {
		if _, ok := found[label]; !ok && label != "swap" {
			return nil, fmt.Errorf("there is no partition %s", label)
		}
	}
	return found, nil
}

func names(files []fat.File) (list []string) {
	for _, f := range files {
		list = append(list, f.Path)
	}
	return list
}

// espFiles checks what is on the EFI system partition.
func (v *verifier) espFiles(list []fat.File, files map[string][]byte) {
	var unexpected, ukis []string
	for _, name := range names(list) {
		switch {
		case ukiPath.MatchString(name):
			ukis = append(ukis, name)
		case name == loaderPath || name == loaderTwin || name == configPath || authVariable(name) != nil:
		default:
			unexpected = append(unexpected, name)
		}
	}
	var err error
	switch {
	case len(unexpected) > 0:
		err = fmt.Errorf("unexpected: %s", strings.Join(unexpected, ", "))
	case files[loaderPath] == nil:
		err = fmt.Errorf("%s is missing", loaderPath)
	case len(ukis) == 0:
		err = errors.New("there is no UKI in EFI/Linux")
	case v.manifest != nil && len(ukis) != 1:
		err = fmt.Errorf("there is more than the one UKI of the build: %s", strings.Join(ukis, ", "))
	}
	v.record(ESPFiles, "partition esp", err, "the loader, its configuration, keys to enrol, %s", strings.Join(ukis, ", "))

	for _, name := range names(list) {
		// Whatever firmware could start, wherever it is.
		if bytes.HasPrefix(files[name], []byte("MZ")) || strings.HasSuffix(strings.ToLower(name), ".efi") {
			v.record(Signature, name, authenticode.Verify(files[name], []*x509.Certificate{v.DB}), "signed by db, %s", v.DB.Subject.CommonName)
		}
	}
	v.record(LoaderConf, configPath, loaderConfig(files[configPath]), "editor no")
	v.enrolment(list, files)
}

// loaderConfig checks that the loader lets nobody change the command line.
// Source: loader.conf(5).
func loaderConfig(text []byte) error {
	if text == nil {
		return errors.New("it is missing: the loader's editor would be on")
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.EqualFold(key, "editor") {
			if found++; strings.TrimSpace(value) != "no" {
				return fmt.Errorf("it has %q, want %q", strings.TrimSpace(line), "editor no")
			}
		}
	}
	if found != 1 {
		return fmt.Errorf("it has %d lines about the editor, want %q once", found, "editor no")
	}
	return nil
}

// authVariable returns the variable that the loader enrols from a file.
func authVariable(name string) *efisig.Variable {
	base, ok := strings.CutPrefix(name, keysFolder)
	if !ok {
		return nil
	}
	for _, variable := range []efisig.Variable{efisig.PK, efisig.KEK, efisig.DB, efisig.DBX} {
		if base == variable.Name+".auth" {
			return &variable
		}
	}
	return nil
}

// enrolment checks what the loader enrols in setup mode: our certificates, and
// no others.
func (v *verifier) enrolment(list []fat.File, files map[string][]byte) {
	found := false
	for _, name := range names(list) {
		variable := authVariable(name)
		if variable == nil {
			continue
		}
		found = true
		detail, err := v.auth(*variable, files[name])
		v.record(Enrolment, name, err, "%s", detail)
	}
	if !found {
		v.note("the disk carries no keys to enrol")
	}
	if v.PK == nil || v.KEK == nil {
		v.note("who signed the keys to enrol was not checked: that needs PK.pem and KEK.pem, in a folder given with --keys")
	}
}

func (v *verifier) auth(variable efisig.Variable, data []byte) (string, error) {
	u, err := efisig.ParseUpdate(data)
	if err != nil {
		return "", err
	}
	lists, err := efisig.Parse(u.Payload)
	if err != nil {
		return "", err
	}
	by, content := v.PK, v.DB
	switch variable {
	case efisig.PK:
		content = v.PK
	case efisig.KEK:
		content = v.KEK
	case efisig.DB:
		by = v.KEK
	case efisig.DBX:
		by, content = v.KEK, nil
	}
	said := "dbx"
	if content != nil {
		if len(lists) != 1 || lists[0].Type != efisig.CertX509 || len(lists[0].Signatures) != 1 || !bytes.Equal(lists[0].Signatures[0].Data, content.Raw) {
			return "", fmt.Errorf("it would enrol something else than the certificate of %s", variable.Name)
		}
		said = content.Subject.CommonName
	}
	if by == nil {
		return said + ", signer not checked", nil
	}
	return said + ", signed by " + by.Subject.CommonName, u.Verify(variable, efisig.Replace, by)
}
