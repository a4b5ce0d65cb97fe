// Package machinetest makes small signed disks for tests that need a machine
// but no operating system. It needs openssl, efitools, sbsigntool, mtools,
// dosfstools and gdisk of the SDK.
package machinetest

import (
	"os"
	"path/filepath"
	"testing"

	"cloison/host/sdk"
)

// EspOffset is where the ESP of Disk starts, in bytes.
const EspOffset = 1 << 20

// Keys makes PK, KEK and db in a new folder: NAME.key, NAME.crt (PEM),
// NAME.esl and NAME.auth.
func Keys(t testing.TB, s *sdk.SDK) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"PK", "KEK", "db"} {
		run(t, s, dir, "openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "30",
			"-subj", "/CN=test "+name, "-keyout", name+".key", "-out", name+".crt")
		run(t, s, dir, "cert-to-efi-sig-list", name+".crt", name+".esl")
	}
	for name, signer := range map[string]string{"PK": "PK", "KEK": "PK", "db": "KEK"} {
		run(t, s, dir, "sign-efi-sig-list", "-k", signer+".key", "-c", signer+".crt", name, name+".esl", name+".auth")
	}
	return dir
}

// Disk makes a disk whose ESP enrols the keys and has systemd-boot, signed,
// and nothing to boot. It returns the path.
func Disk(t testing.TB, s *sdk.SDK, keys string) string {
	t.Helper()
	dir := t.TempDir()
	loader := filepath.Join(dir, "BOOTX64.EFI")
	run(t, s, dir, "sbsign", "--key", bring(t, dir, keys, "db.key"), "--cert", bring(t, dir, keys, "db.crt"),
		"--output", loader, "/usr/lib/systemd/boot/efi/systemd-bootx64.efi")
	write(t, filepath.Join(dir, "loader.conf"), "timeout 0\neditor no\nsecure-boot-enroll force\n")
	const size = 64 << 20
	for _, name := range []string{"esp.img", "disk.img"} {
		write(t, filepath.Join(dir, name), "")
		if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "disk.img"), size+2*EspOffset); err != nil {
		t.Fatal(err)
	}
	run(t, s, dir, "sgdisk", "-n", "1:2048:+64M", "-t", "1:ef00", "-c", "1:esp", "disk.img")
	esp := "disk.img@@1M"
	run(t, s, dir, "mkfs.vfat", "-n", "ESP", "esp.img")
	run(t, s, dir, "dd", "if=esp.img", "of=disk.img", "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	run(t, s, dir, "mmd", "-i", esp, "::EFI", "::EFI/BOOT", "::loader", "::loader/keys", "::loader/keys/auto")
	run(t, s, dir, "mcopy", "-i", esp, "BOOTX64.EFI", "::EFI/BOOT/")
	run(t, s, dir, "mcopy", "-i", esp, "loader.conf", "::loader/")
	for _, name := range []string{"PK.auth", "KEK.auth", "db.auth"} {
		run(t, s, dir, "mcopy", "-i", esp, bring(t, dir, keys, name), "::loader/keys/auto/")
	}
	return filepath.Join(dir, "disk.img")
}

// bring copies keys/name to dir, so that one folder is bound into the SDK.
func bring(t testing.TB, dir, keys, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(keys, name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name), string(text))
	return name
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, s *sdk.SDK, dir string, args ...string) {
	t.Helper()
	if err := s.Run(t.Context(), sdk.Step{Args: args, Dir: dir, Writable: []string{dir}}); err != nil {
		t.Fatal(err)
	}
}
