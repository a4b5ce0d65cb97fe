// Package debian fetches Debian packages with the host's own apt, verified
// by Debian's archive keys, and unpacks them without running any of their
// scripts. It needs apt, dpkg-deb, perl and Debian's archive keyring, which
// every Debian has, and no privilege.
//
// Source: apt-get(8), apt.conf(5), mmdebstrap(1).
package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"cloison/format/hint"
	"cloison/format/packagelist"
)

// Keyring holds the keys that Debian signs its archive with.
const Keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// Architecture is the only one that Cloison builds on and for.
const Architecture = "amd64"

// Archive is where packages come from: base URIs of a Debian mirror.
type Archive struct {
	Main     string // suites, their updates and backports
	Security string // security updates
}

// FindArchive returns the mirror that CLOISON_DEBIAN_MIRROR names, or else
// the one that the host's own apt uses.
func FindArchive(ctx context.Context) (Archive, error) {
	archive := Archive{os.Getenv("CLOISON_DEBIAN_MIRROR"), os.Getenv("CLOISON_DEBIAN_SECURITY_MIRROR")}
	if archive.Main == "" {
		// What apt would fetch if it knew nothing yet: the answer does not
		// depend on whether anybody ever ran apt-get update here.
		lists, err := os.MkdirTemp("", "cloison-apt-*")
		if err != nil {
			return Archive{}, err
		}
		defer os.RemoveAll(lists)
		uris, err := run(ctx, "apt-get", "update", "--print-uris", "-o", "Dir::State::Lists="+lists, "-o", "Debug::NoLocking=true")
		if err != nil {
			return Archive{}, err
		}
		archive = ownArchive(string(uris), codename())
	}
	if archive.Main == "" {
		return Archive{}, hint.Wrap(errors.New("cannot find a Debian mirror in the host's apt sources"),
			"set CLOISON_DEBIAN_MIRROR to the base URI of a Debian mirror")
	}
	if archive.Security == "" {
		// Mirrors carry both archives side by side under these names.
		archive.Security = strings.TrimSuffix(archive.Main, "/") + "-security"
	}
	for _, uri := range []string{archive.Main, archive.Security} {
		if u, err := url.Parse(uri); err != nil || !slices.Contains([]string{"http", "https", "file"}, u.Scheme) {
			return Archive{}, hint.Wrap(fmt.Errorf("cannot use the Debian mirror %q", uri), "it must be an http, https or file URI")
		}
	}
	return archive, nil
}

var index = regexp.MustCompile(`^'(.+/)dists/([^/]+)/main/binary-` + Architecture + `/Packages`)

// ownArchive picks the host distribution's own archives out of the URIs of
// package indices: a third party's sources name other suites or components.
func ownArchive(uris, codename string) Archive {
	var archive Archive
	for line := range strings.Lines(uris) {
		m := index.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		switch {
		case m[2] == codename && archive.Main == "":
			archive.Main = m[1]
		case m[2] == codename+"-security" && archive.Security == "":
			archive.Security = m[1]
		}
	}
	return archive
}

func codename() string {
	release, _ := os.ReadFile("/etc/os-release") // without it no suite matches and FindArchive says so
	for line := range strings.Lines(string(release)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			return name
		}
	}
	return ""
}

// Sources returns the apt sources of the given suites.
func (a Archive) Sources(suites []string) string {
	var text strings.Builder
	for _, suite := range suites {
		uri := a.Main
		if strings.HasSuffix(suite, "-security") {
			uri = a.Security
		}
		fmt.Fprintf(&text, "deb [signed-by=%s] %s %s main\n", Keyring, uri, suite)
	}
	return text.String()
}

// Unpack fetches the packages (NAME or NAME/SUITE) and all that they depend
// on from the suites, the first of which is the base, and unpacks them into
// the new folder target. work is a folder for downloads, empty or absent. It
// returns exactly what was unpacked.
//
// No maintainer script runs: nothing of a package is executed on this host.
func Unpack(ctx context.Context, a Archive, suites, packages []string, target, work string) ([]packagelist.Package, error) {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	if _, err := os.Stat(Keyring); err != nil {
		return nil, hint.Wrap(fmt.Errorf("cannot verify packages: %w", err), "install debian-archive-keyring")
	}
	tool, err := fetchTool(ctx, a, suites, work)
	if err != nil {
		return nil, err
	}
	list := filepath.Join(work, "debs")
	// The hook runs between download and clean-up, when the .deb files that
	// apt has verified are still there.
	hook := fmt.Sprintf(`sha256sum "$1"/var/cache/apt/archives/*.deb > '%s'`, list)
	args := []string{
		tool, "--mode=chrootless", "--variant=extract", "--architectures=" + Architecture, "--format=directory",
		// As root, mmdebstrap warns of maintainer scripts that would act on the host: none is run.
		"--skip=check/chrootless",
		"--include=" + strings.Join(packages, ","), "--keyring=" + Keyring,
		`--aptopt=APT::Install-Recommends "false"`, `--aptopt=Acquire::Retries "3"`,
		"--extract-hook=" + hook, suites[0], target, "-",
	}
	command := exec.CommandContext(ctx, "perl", args...)
	command.Stdin = strings.NewReader(a.Sources(suites))
	command.Env = environment(work)
	if _, err := output(command, "mmdebstrap"); err != nil {
		return nil, err
	}
	sums, err := os.ReadFile(list)
	if err != nil {
		return nil, err
	}
	return parseSums(string(sums))
}

// parseSums turns "SHA256  …/NAME_VERSION_ARCHITECTURE.deb" lines into packages.
func parseSums(sums string) ([]packagelist.Package, error) {
	var list []packagelist.Package
	for line := range strings.Lines(sums) {
		digest, path, ok := strings.Cut(strings.TrimSpace(line), "  ")
		field := strings.Split(strings.TrimSuffix(filepath.Base(path), ".deb"), "_")
		if !ok || len(field) != 3 {
			return nil, fmt.Errorf("internal error: cannot read %q as a package", line)
		}
		// apt writes the colon of an epoch as %3a in file names.
		version, err := url.PathUnescape(field[1])
		if err != nil {
			return nil, fmt.Errorf("cannot read the version of %s: %w", path, err)
		}
		list = append(list, packagelist.Package{Name: field[0], Version: version, Architecture: field[2], SHA256: digest})
	}
	return packagelist.Parse(packagelist.Print(list))
}

// fetchTool has apt download mmdebstrap from the same suites, so that every
// host bootstraps with the same version and needs nothing installed.
func fetchTool(ctx context.Context, a Archive, suites []string, work string) (string, error) {
	apt := filepath.Join(work, "apt")
	for _, dir := range []string{"lists/partial", "archives/partial", "etc"} {
		if err := os.MkdirAll(filepath.Join(apt, dir), 0o755); err != nil {
			return "", err
		}
	}
	sources, status := filepath.Join(apt, "sources.list"), filepath.Join(apt, "status")
	if err := errors.Join(os.WriteFile(sources, []byte(a.Sources(suites)), 0o644), os.WriteFile(status, nil, 0o644)); err != nil {
		return "", err
	}
	options := []string{
		"-q", "-o", "Dir::Etc::SourceList=" + sources, "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "Dir::State::Lists=" + filepath.Join(apt, "lists"), "-o", "Dir::State::Status=" + status,
		"-o", "Dir::Cache=" + apt, "-o", "APT::Architecture=" + Architecture, "-o", "APT::Architectures=" + Architecture,
		"-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Languages=none", "-o", "APT::Sandbox::User=", "-o", "Acquire::Retries=3",
	}
	command := func(args ...string) error {
		c := exec.CommandContext(ctx, "apt-get", append(slices.Clone(options), args...)...)
		c.Dir, c.Env = apt, environment(work)
		_, err := output(c, "apt-get "+args[0])
		return err
	}
	if err := command("update"); err != nil {
		return "", err
	}
	if err := command("download", "mmdebstrap"); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(apt, "mmdebstrap_*.deb"))
	if err != nil || len(debs) != 1 {
		return "", fmt.Errorf("internal error: apt-get download left %d packages of mmdebstrap", len(debs))
	}
	unpacked := filepath.Join(work, "mmdebstrap")
	if _, err := run(ctx, "dpkg-deb", "--extract", debs[0], unpacked); err != nil {
		return "", err
	}
	return filepath.Join(unpacked, "usr/bin/mmdebstrap"), nil
}

// environment is what apt and mmdebstrap run with: nothing of the user's but
// the way to the network.
func environment(work string) []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "TMPDIR=" + work, "HOME=" + work}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return output(exec.CommandContext(ctx, name, args...), name)
}

func output(c *exec.Cmd, name string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, hint.Wrap(fmt.Errorf("cannot run %s: %w", name, err), "Cloison builds on Debian 12 or 13; install the package that has it")
	case err != nil:
		told := complaints(stdout.String() + stderr.String())
		err = fmt.Errorf("cannot run %s: %w\n%s", name, err, told)
		return nil, hint.Wrap(err, "%s", advice(told))
	}
	return stdout.Bytes(), nil
}

// complaints keeps the lines of apt's and mmdebstrap's output that say what
// went wrong.
func complaints(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "E:") || strings.HasPrefix(line, "W:") || strings.HasPrefix(line, "Err:") {
			kept = append(kept, "  "+line)
		}
	}
	if len(kept) == 0 {
		return "  " + strings.TrimSpace(text)
	}
	return strings.Join(kept[:min(len(kept), 8)], "\n")
}

// advice reads what apt said. The order matters: a forged file is the worst news.
func advice(told string) string {
	for _, row := range []struct{ words, advice string }{
		{"BADSIG|NO_PUBKEY|not signed|Hash Sum mismatch|unexpected size|invalid signature", "what the mirror sent is not what Debian signed: use another mirror (CLOISON_DEBIAN_MIRROR), and distrust this one"},
		{"No space left", "free some disk space: the SDK needs 3 GB under the cache folder"},
		{"Could not resolve|Could not connect|Network is unreachable|Temporary failure|Connection failed|Connection timed out", "check the network, or set CLOISON_DEBIAN_MIRROR to a Debian mirror that can be reached"},
		{"404|does not have a Release file", "the mirror lacks a file that it should have; it may be in the middle of an update: try again in some minutes, or set CLOISON_DEBIAN_MIRROR"},
		{"Unable to locate package", "a name in sdk/packages is not in the suites of sdk/suite"},
	} {
		for word := range strings.SplitSeq(row.words, "|") {
			if strings.Contains(told, word) {
				return row.advice
			}
		}
	}
	return "the lines above are apt's own"
}
