// Package confine makes the box of a service around itself and becomes the
// service: what the declaration in the verified image does not name is not
// there any more. PID 1 has started it as the first process of a PID namespace,
// in the service's control group (package service says how).
//
// The order of the steps is the point of it (docs/decisions/0010-services.md).
// Each one can fail, and then the service does not start: PID 1 reads on the
// last descriptor which step it was.
//
// It needs root, and Linux 7.3 or newer: nothing is left out because the kernel
// does not have it.
package confine

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	filter "cloison/format/seccomp"
	"cloison/format/service"
	"cloison/linux/landlock"
	"cloison/linux/mount"
	"cloison/linux/namespace"
	"cloison/linux/privilege"
	"cloison/linux/seccomp"
)

// Core is where the launcher finds things.
type Core struct {
	Prefix   string // before every path of the core: "" but in tests
	Landlock int    // the ABI to use: landlock.ABI, but on a test's kernel
	// Without are names of steps to leave out, for tests that ask what the other
	// steps hold. The program launch has no way to set it.
	Without []string
}

// Main is the program: its argument is the name of the service.
func Main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: launch SERVICE (PID 1 calls it)")
		os.Exit(2)
	}
	Core{Landlock: landlock.ABI}.Launch(os.Args[1])
}

// Launch becomes the service. It never returns: when it cannot, it says so on
// the status descriptor and ends.
func (c Core) Launch(name string) {
	// The Go runtime stays out of the way: this thread is the one that loses its
	// rights, and a collection would send it signals.
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	status, err := c.launch(name)
	text := fmt.Sprintf("cannot start service %s: %v\n", name, err)
	if status == nil {
		status = os.Stderr // only the declaration says where the status is
	}
	_, _ = status.WriteString(text) // nobody is left who could be told
	os.Exit(1)
}

// box is what the steps hand on.
type box struct {
	Core
	*service.Service
	root    string
	program *privilege.Program
	rules   *landlock.Rules
	filter  *seccomp.Filter
	keep    privilege.Set
}

// steps make the box. Where a step stands has a reason.
var steps = []struct {
	name string
	why  string
	do   func(*box) error
}{
	{"descriptors", "first: whatever else is open is closed before any file of ours is opened", (*box).descriptors},
	{"network", "where PID 1 sees it: the file that keeps a network namespace is among PID 1's mounts", (*box).network},
	{"namespaces", "before the mounts and the host name, which are then nobody else's", (*box).namespaces},
	{"root", "everything is mounted while the old root is there to take it from", (*box).mountRoot},
	{"pivot", "the old root is let go: from here on no path leads out", (*box).pivot},
	{"program", "opened in the new root, on a number that the service can never use", (*box).openProgram},
	{"limits", "as root: hard limits can be lowered by anybody and raised by nobody after", (*box).limits},
	{"rules", "Landlock's rules are names of files, opened while nothing forbids it", (*box).makeRules},
	{"filter", "made before rights go, so that what follows is a few system calls", (*box).makeFilter},
	{"no new privileges", "before Landlock and seccomp, which ask for it", func(*box) error { return privilege.NoNewPrivileges() }},
	{"memory", "W^X holds for the launcher already, and for all after it", func(*box) error { return privilege.DenyWriteExecute() }},
	{"identity", "no mount, device or limit is left to make: root ends here, and all five sets of capabilities", func(b *box) error { return privilege.Become(b.ID, b.keep) }},
	{"not dumpable", "after the change of user, which sets it anew (CVE-2016-9962: others look into a half-made box)", func(*box) error { return privilege.Undumpable() }},
	{"landlock", "after the root is made: a restricted process mounts nothing", func(b *box) error { return b.rules.Enforce() }},
	{"seccomp", "last: it allows nothing of the above", func(b *box) error { return b.filter.Enforce() }},
	{"execute", "", func(b *box) error { return b.program.Execute() }},
}

func (c Core) launch(name string) (status *os.File, err error) {
	text, err := os.ReadFile(c.Prefix + service.SealedPath(name))
	if err != nil {
		return nil, fmt.Errorf("declaration: %w", err)
	}
	s, err := service.Parse(string(text))
	if err != nil {
		return nil, err
	}
	if s.Name != name {
		return nil, fmt.Errorf("the declaration is of %s", s.Name)
	}
	behind := 3 + len(s.Descriptors())
	if err := privilege.HandedOn(behind); err != nil {
		return nil, err
	}
	status = os.NewFile(uintptr(behind), "status")
	b := &box{Core: c, Service: s, root: c.Prefix + service.RootPath(name)}
	for i, step := range steps {
		if slices.Contains(c.Without, step.name) {
			continue
		}
		if err := step.do(b); err != nil {
			return status, fmt.Errorf("step %d, %s: %w", i+1, step.name, err)
		}
	}
	return status, fmt.Errorf("internal error: it was not executed")
}

func (b *box) descriptors() error {
	if !namespace.First() {
		return fmt.Errorf("not the first process of a PID namespace")
	}
	return privilege.OnlyDescriptors(3 + len(b.Descriptors()))
}

func (b *box) namespaces() error {
	if err := namespace.Unshare(); err != nil {
		return err
	}
	if err := namespace.Isolate(); err != nil {
		return err
	}
	return namespace.SetHostname(b.Name)
}

// network enters the declared network namespace. An empty one is made at the
// first start of a service and kept for the others: its making takes longer than
// all the mounts.
func (b *box) network() error {
	if b.Network == service.None {
		return namespace.OwnNetwork(b.Prefix + service.EmptyNetworks + "/" + b.Name)
	}
	return namespace.JoinNetwork(b.Prefix + service.Networks + "/" + b.Network)
}

// mountRoot lays the service's root over its folder in the core, and the rest
// into it. The folders to mount on are in the core.
func (b *box) mountRoot() error {
	const read = namespace.ReadOnly | namespace.NoDevices | namespace.NoExec
	// The root is the only mount that programs can be executed from.
	if err := namespace.Bind(b.root, b.root, namespace.ReadOnly|namespace.NoDevices); err != nil {
		return err
	}
	if b.Proc == service.Own {
		if err := mount.Mount("proc", b.root+"/proc", "proc", "ro,nosuid,nodev,noexec,hidepid=invisible,subset=pid"); err != nil {
			return err
		}
	}
	for _, p := range b.Sys {
		if err := namespace.Bind(p, b.root+p, read); err != nil {
			return err
		}
	}
	if err := b.makeDevices(); err != nil {
		return err
	}
	for _, w := range b.Writable {
		options := fmt.Sprintf("nosuid,nodev,noexec,size=%d,nr_inodes=%d,mode=0700,uid=%d,gid=%d", uint64(w.Size), inodes(w.Size), b.ID, b.ID)
		if err := mount.Mount("tmpfs", b.root+w.Path, "tmpfs", options); err != nil {
			return err
		}
	}
	for _, p := range b.State {
		from := b.Prefix + service.StatePath(b.Name, p)
		if err := makeState(from, b.ID); err != nil {
			return err
		}
		if err := namespace.Bind(from, b.root+p, namespace.NoDevices|namespace.NoExec); err != nil {
			return err
		}
	}
	for _, f := range b.Config {
		if err := namespace.Bind(b.Prefix+f.Source, b.root+f.Path, read); err != nil {
			return err
		}
	}
	for _, u := range b.Uses {
		from, name, _ := strings.Cut(u, "/")
		path := service.SocketPath(from, name)
		if err := namespace.Bind(b.Prefix+path, b.root+path, read); err != nil {
			return err
		}
	}
	return nil
}

// inodes is how many files a writable folder of a size can have.
func inodes(size service.Size) uint64 { return max(16, uint64(size)/16384) }

// makeDevices makes /dev: device nodes of the service's own, which nobody else
// can open, on a file system that is read-only afterwards.
func (b *box) makeDevices() error {
	if len(b.Devices) == 0 {
		return nil
	}
	dev := b.root + "/dev"
	if err := mount.Mount("tmpfs", dev, "tmpfs", "nosuid,noexec,size=4096,nr_inodes=64,mode=0755"); err != nil {
		return err
	}
	for _, d := range b.Devices {
		mode := uint32(0o400)
		if d.Access == service.Write {
			mode = 0o600
		}
		if err := namespace.CopyDevice(d.Path, b.root+d.Path, mode, b.ID); err != nil {
			return err
		}
	}
	return mount.Mount("", dev, "", "remount,ro,nosuid,noexec")
}

// makeState makes a folder of the state volume for the service alone, and sees
// that it still is.
func makeState(path string, owner uint32) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("cannot make a state folder: %w", err)
	}
	return namespace.Own(path, owner)
}

func (b *box) pivot() error {
	privilege.PrivateFiles()
	return namespace.PivotRoot(b.root)
}

func (b *box) openProgram() (err error) {
	var environment []string
	for _, v := range b.Environment {
		environment = append(environment, v.Name+"="+v.Value)
	}
	if names := b.Descriptors(); len(names) > 0 {
		environment = append(environment, "LISTEN_PID=1", "LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	// Who is who among those that may connect, and which boot this is, comes from
	// PID 1.
	for _, name := range []string{service.Peers, service.Boot} {
		if value, ok := os.LookupEnv(name); ok {
			environment = append(environment, name+"="+value)
		}
	}
	b.program, err = privilege.NewProgram(b.Program, int(b.Limits.Descriptors), b.Arguments, environment)
	return err
}

func (b *box) limits() error {
	for _, l := range []struct {
		resource int
		value    uint64
	}{
		{privilege.FileSize, uint64(b.Limits.FileSize)},
		{privilege.LockedMemory, uint64(b.Limits.LockedBytes)},
		{privilege.Processes, uint64(b.Limits.Processes)},
		{privilege.CoreSize, 0},
		{privilege.Queues, 0},
		{privilege.RealTime, 0},
		{privilege.Signals, 256},
	} {
		if err := privilege.Limit(l.resource, l.value); err != nil {
			return err
		}
	}
	return privilege.NewKeyring()
}

func (b *box) makeRules() (err error) {
	if b.rules, err = landlock.New(b.Core.Landlock); err != nil {
		return err
	}
	type rule struct {
		path   string
		access landlock.Access
	}
	rules := []rule{{b.Service.Program, landlock.Execute}}
	if _, ours := b.Ours(); !ours {
		// Its libraries, and the dynamic linker.
		rules = append(rules, rule{"/usr", landlock.Execute}, rule{"/lib64", landlock.Execute})
	}
	ioctl := map[string]landlock.Access{}
	for _, d := range b.Devices {
		if len(d.Ioctls) > 0 {
			ioctl[d.Path] = landlock.Ioctl
		}
	}
	for _, p := range b.Service.Landlock.Read {
		rules = append(rules, rule{p, landlock.Read | ioctl[p]})
	}
	for _, p := range b.Service.Landlock.Write {
		rules = append(rules, rule{p, landlock.Write | ioctl[p]})
	}
	for _, u := range b.Uses {
		from, name, _ := strings.Cut(u, "/")
		rules = append(rules, rule{service.SocketPath(from, name), landlock.Connect})
	}
	for _, r := range rules {
		if err := b.rules.Path(r.path, r.access); err != nil {
			return err
		}
	}
	for _, l := range []struct {
		ports  []uint16
		access landlock.Port
	}{
		{b.Service.Landlock.TCPBind, landlock.BindTCP},
		{b.Service.Landlock.TCPConnect, landlock.ConnectTCP},
		{b.Service.Landlock.UDPBind, landlock.BindUDP},
		{b.Service.Landlock.UDPConnect, landlock.ConnectUDP},
	} {
		for _, p := range l.ports {
			if err := b.rules.Port(p, l.access); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *box) makeFilter() error {
	policy := filter.Policy{Groups: b.Service.Seccomp.Groups, Program: b.Limits.Descriptors}
	for _, c := range b.Service.Seccomp.Calls {
		policy.Calls = append(policy.Calls, c.Name)
	}
	for _, d := range b.Devices {
		for _, i := range d.Ioctls {
			policy.Ioctls = append(policy.Ioctls, i.Number)
		}
	}
	program, err := filter.Filter(policy)
	if err != nil {
		return err
	}
	b.filter = seccomp.New(program)
	var names []string
	for _, c := range b.Capabilities {
		names = append(names, c.Name)
	}
	b.keep, err = privilege.SetOf(names...)
	return err
}
