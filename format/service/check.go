package service

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// MinID and MaxID bound the users of services: above those that belong to
// people's habits, below those of people.
const MinID, MaxID = 901, 999

// Bounds of the limits.
const (
	minMemory      = 1 << 20
	maxProcesses   = 4096
	maxCPU         = 100 * 256
	minDescriptors = 8
	maxDescriptors = 4096
	maxTime        = Duration(time.Hour)
	maxInstances   = 64
)

// exempting are system calls with which a service could leave its share of the
// state volume: they give its files to another project, or change quotas. Who
// owns a file may do the first without any capability.
var exempting = []string{"file_setattr", "quotactl", "quotactl_fd"}

// fileIoctls are the types of ioctl commands (bits 8 to 15 of the number) that are
// for file systems and not for devices; with some of them, as with exempting, files
// get another project.
//
// Source: Linux, include/uapi/linux/fs.h.
var fileIoctls = []byte{'X', 'f'}

// grantable are the capabilities that a service may have. None of them lets it
// mount, load, trace, change a user or make a device node.
var grantable = []string{
	"CAP_NET_BIND_SERVICE", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_TIME", "CAP_AUDIT_READ", "CAP_IPC_LOCK", "CAP_SYS_NICE", "CAP_WAKE_ALARM",
}

// Check says what is wrong with a declaration, by the names of its fields. The
// zero declaration is wrong.
func (s *Service) Check() error {
	c := &checker{}
	switch {
	case !isName(s.Name):
		return fmt.Errorf("name = %q is not lower-case letters, digits and hyphens", s.Name)
	case s.ID < MinID || s.ID > MaxID:
		return fmt.Errorf("the user %d is not between %d and %d", s.ID, MinID, MaxID)
	}
	c.line("about", s.About)
	c.path("program", s.Program)
	if folder, ours := s.Ours(); ours {
		c.is(isName(folder), "program = %q is not the name of a program", s.Program)
		c.is(len(s.Files) == 0, "files is for programs of the SDK only")
	} else {
		c.is(strings.HasPrefix(s.Program, "/usr/"), "program = %q is not below /usr", s.Program)
	}
	for _, a := range s.Arguments {
		c.is(printable(a), "arguments has %q", a)
	}
	for _, f := range s.Files {
		c.path("files", f)
		c.is(strings.HasPrefix(f, "/usr/"), "files has %q, which is not below /usr", f)
	}
	c.once("files", s.Files)
	var variables []string
	for _, v := range s.Environment {
		variables = append(variables, v.Name)
		c.is(isVariable(v.Name), "environment has the name %q", v.Name)
		c.is(!strings.HasPrefix(v.Name, "LISTEN_") && !strings.HasPrefix(v.Name, "CLOISON_") && !strings.HasPrefix(v.Name, "LD_"), "environment must not set %s", v.Name)
		c.is(printable(v.Value), "environment has an unprintable value for %s", v.Name)
	}
	c.once("environment", variables)
	c.word("stdio", s.Stdio, Log, Console)
	for _, g := range s.Given {
		c.name("given", g)
	}
	c.once("descriptors", s.Descriptors())
	c.is(len(s.Descriptors()) <= 64, "more than 64 descriptors")
	c.is(s.Network == None || isName(s.Network), "network = %q is neither none nor a name", s.Network)
	c.word("proc", s.Proc, None, Own)
	s.checkRoot(c)
	s.checkSockets(c)
	s.checkRights(c)
	s.checkLimits(c)
	s.checkStart(c)
	s.checkInstances(c)
	return c.err
}

// checkRoot looks at what is put into the service's root. No path may lie in
// another: which of them wins would be a matter of order.
func (s *Service) checkRoot(c *checker) {
	roots := []string{"/usr", "/lib64", Sockets}
	var placed []string
	if s.Proc == Own {
		roots = append(roots, "/proc")
	}
	for _, p := range s.Sys {
		c.path("sys", p)
		c.is(strings.HasPrefix(p, "/sys/"), "sys has %q, which is not below /sys", p)
		roots = append(roots, p)
	}
	for _, d := range s.Devices {
		c.path("devices.path", d.Path)
		c.is(path.Dir(d.Path) == "/dev", "devices.path = %q is not in /dev", d.Path)
		c.word("devices.access", d.Access, Read, Write)
		c.line("devices.why", d.Why)
		for _, i := range d.Ioctls {
			c.is(isConstant(i.Name), "devices.ioctls.name = %q", i.Name)
			c.is(!slices.Contains(fileIoctls, byte(i.Number>>8)), "devices.ioctls has %s, which is for files and no device", i.Name)
		}
		roots = append(roots, d.Path)
	}
	for _, w := range s.Writable {
		c.path("writable.path", w.Path)
		c.is(w.Size > 0 && w.Size%4096 == 0 && w.Size <= s.Limits.Memory, "writable.size = %v is not whole pages within limits.memory", w.Size)
		placed = append(placed, w.Path)
	}
	var states []string
	for _, p := range s.State {
		c.path("state", p)
		placed, states = append(placed, p), append(states, path.Base(p))
	}
	c.once("last names of state", states)
	for _, f := range s.Config {
		c.path("configuration.source", f.Source)
		c.path("configuration.path", f.Path)
		c.is(strings.HasPrefix(f.Source, Configurations+"/"), "configuration.source = %q is not below %s", f.Source, Configurations)
		placed = append(placed, f.Path)
	}
	roots = append(roots, placed...)
	for i, a := range roots {
		for j, b := range roots {
			c.is(i == j || !within(a, b), "%s is in %s", a, b)
		}
	}
	for _, p := range placed {
		top, _, _ := strings.Cut(p[1:], "/")
		c.is(!slices.Contains([]string{"proc", "sys", "dev"}, top), "%s cannot lie in /%s", p, top)
	}
}

func (s *Service) checkSockets(c *checker) {
	for _, p := range s.Provides {
		c.name("provides.name", p.Name)
		c.word("provides.type", p.Type, Stream, SeqPacket, Datagram)
		c.is(p.Mode > 0 && p.Mode <= 0o777 && p.Mode&0o111 == 0, "provides.mode = %v is not read and write bits", p.Mode)
		for _, a := range p.Allow {
			c.name("provides.allow", a)
			c.is(a != s.Name, "provides.allow has the service itself")
		}
		c.once("provides.allow", p.Allow)
	}
	for _, u := range s.Uses {
		from, socket, ok := strings.Cut(u, "/")
		c.is(ok && isName(from) && isName(socket) && from != s.Name, "uses has %q, which is not SERVICE/SOCKET of another", u)
	}
	c.once("uses", s.Uses)
}

func (s *Service) checkRights(c *checker) {
	var names []string
	for _, r := range s.Capabilities {
		c.is(slices.Contains(grantable, r.Name), "capabilities has %q, which no service can have", r.Name)
		c.line("capabilities.why", r.Why)
		names = append(names, r.Name)
	}
	c.once("capabilities", names)
	c.is(len(s.Seccomp.Groups) > 0, "seccomp.groups is empty: no program runs without a system call")
	for _, g := range s.Seccomp.Groups {
		c.name("seccomp.groups", g)
	}
	c.once("seccomp.groups", s.Seccomp.Groups)
	names = nil
	for _, r := range s.Seccomp.Calls {
		c.is(isCall(r.Name), "seccomp.calls has %q", r.Name)
		c.is(!slices.Contains(exempting, r.Name), "seccomp.calls has %q, which no service can have: nothing would bound what it keeps", r.Name)
		c.line("seccomp.calls.why", r.Why)
		names = append(names, r.Name)
	}
	c.once("seccomp.calls", names)
	for _, p := range slices.Concat(s.Landlock.Read, s.Landlock.Write) {
		c.path("landlock", p)
	}
	for _, p := range s.Landlock.Write {
		c.is(s.canWrite(p), "landlock.write has %q, which nothing makes writable", p)
	}
	c.once("landlock.read and landlock.write", slices.Concat(s.Landlock.Read, s.Landlock.Write))
	for _, ports := range [][]uint16{s.Landlock.TCPBind, s.Landlock.TCPConnect, s.Landlock.UDPConnect} {
		c.is(!slices.Contains(ports, 0), "landlock has the port 0")
	}
	for _, ports := range [][]uint16{s.Landlock.TCPBind, s.Landlock.TCPConnect, s.Landlock.UDPBind, s.Landlock.UDPConnect} {
		c.is(len(ports) == 0 || s.Network != None, "landlock has ports, and network = none has nothing behind them")
		c.is(slices.IsSorted(ports) && len(slices.Compact(slices.Clone(ports))) == len(ports), "landlock has ports that are not in order, or twice")
	}
}

func (s *Service) canWrite(p string) bool {
	for _, w := range s.Writable {
		if within(p, w.Path) {
			return true
		}
	}
	for _, d := range s.Devices {
		if p == d.Path && d.Access == Write {
			return true
		}
	}
	return slices.ContainsFunc(s.State, func(state string) bool { return within(p, state) })
}

func (s *Service) checkLimits(c *checker) {
	l := s.Limits
	c.is(l.Memory >= minMemory && l.Memory%4096 == 0, "limits.memory = %v is not whole pages of at least %v", l.Memory, Size(minMemory))
	c.is(l.Processes >= 1 && l.Processes <= maxProcesses, "limits.processes = %d is not between 1 and %d", l.Processes, maxProcesses)
	c.is(l.CPU >= 1 && l.CPU <= maxCPU, "limits.cpu = %d is not between 1 and %d", l.CPU, maxCPU)
	least := minDescriptors + uint32(len(s.Descriptors()))
	c.is(l.Descriptors >= least && l.Descriptors <= maxDescriptors, "limits.descriptors = %d is not between %d and %d", l.Descriptors, least, maxDescriptors)
	keeps := len(s.State) > 0
	c.is(keeps == (l.State > 0) && l.State%4096 == 0, "limits.state = %v is not whole blocks of 4096 bytes, 0 B where state is empty", l.State)
	c.is(keeps == (l.StateFiles > 0), "limits.state_files = %d is not what it may keep, 0 where state is empty", l.StateFiles)
	c.is(l.LockedBytes <= l.Memory, "limits.locked_memory is above limits.memory")
}

func (s *Service) checkStart(c *checker) {
	t := s.Start
	for _, n := range slices.Concat(t.After, t.Needs) {
		c.name("start.after and start.needs", n)
		c.is(n != s.Name, "start has the service itself")
	}
	c.once("start.after and start.needs", slices.Concat(t.After, t.Needs))
	c.word("start.ready", t.Ready, Notify, Started, Ended)
	c.word("start.restart", t.Restart, Always, Failure, Never)
	for _, d := range []Duration{t.Timeout, t.Watchdog, t.Delay, t.Longest, t.Stop} {
		c.is(d >= 0 && d <= maxTime && d%Duration(time.Millisecond) == 0, "start has a duration of %v", d)
	}
	c.is(t.Timeout > 0, "start.timeout is none: nothing waits for ever")
	c.is(t.Stop > 0, "start.stop is none")
	c.is(t.Restart == Never == (t.Delay == 0), "start.delay and start.restart do not agree")
	c.is(t.Longest >= t.Delay, "start.longest is below start.delay")
	c.is(t.Ready != Ended || t.Restart != Always, "start.restart = always is not for a task")
	c.is(t.Ready != Ended || t.Watchdog == 0, "start.watchdog is not for a task")
}

// checkInstances looks at a service that is started again and again: what there is
// one of cannot be an instance's.
func (s *Service) checkInstances(c *checker) {
	most := s.Start.Instances
	c.is(most <= maxInstances, "start.instances = %d is more than %d", most, maxInstances)
	c.is(len(s.Accepts) <= 1, "accepts has more than one port")
	for _, a := range s.Accepts {
		c.is(a.Port > 0, "accepts.port is 0")
		c.is(s.Network != None, "accepts has a port, and network = none has nothing behind it")
		c.is(a.Waiting >= 1 && a.Waiting <= most, "accepts.waiting = %d is not between 1 and start.instances = %d", a.Waiting, most)
		c.is(a.Each >= 1 && a.Each <= a.Waiting, "accepts.each = %d is not between 1 and accepts.waiting = %d", a.Each, a.Waiting)
		c.is(a.Minute >= 1 && a.Minute <= 6000, "accepts.minute = %d is not between 1 and 6000", a.Minute)
		c.is(s.Start.Ready == Notify, "start.ready = %q: a connection waits for its session", s.Start.Ready)
	}
	if most == 0 {
		return
	}
	c.is(s.Stdio == Log, "stdio = %q is not for instances", s.Stdio)
	c.is(len(s.Provides) == 0, "provides is not for instances: nobody could say which of them he means")
	c.is(len(s.State) == 0, "state is not for instances: they would share it")
	c.is(s.Start.Restart == Never && !s.Start.Required && s.Start.Ready != Ended && s.Start.Watchdog == 0 && len(s.Start.After) == 0 && len(s.Start.Needs) == 0,
		"start of instances is restart = never, required = false, no watchdog, after and needs nobody, and no task")
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

func (c *checker) is(ok bool, format string, args ...any) {
	if !ok && c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *checker) line(field, text string) {
	c.is(text != "" && len(text) <= 200 && printable(text), "%s = %q is not one line of text", field, text)
}

func (c *checker) name(field, text string) {
	c.is(isName(text), "%s has %q, which is not a name", field, text)
}

func (c *checker) path(field, text string) {
	ok := strings.HasPrefix(text, "/") && path.Clean(text) == text && len(text) > 1 && len(text) <= 200
	c.is(ok && !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }), "%s has %q, which is not an absolute path", field, text)
}

func (c *checker) word(field, text string, words ...string) {
	c.is(slices.Contains(words, text), "%s = %q is none of %s", field, text, strings.Join(words, ", "))
}

func (c *checker) once(field string, texts []string) {
	for i, t := range texts {
		c.is(!slices.Contains(texts[:i], t), "%s has %q twice", field, t)
	}
}

func within(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

func isName(s string) bool {
	return len(s) >= 1 && len(s) <= 31 && s[0] >= 'a' && only(s, func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' })
}

func isVariable(s string) bool {
	return s != "" && only(s, func(c byte) bool {
		return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_'
	})
}

func isConstant(s string) bool {
	return s != "" && only(s, func(c byte) bool { return c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' })
}

func isCall(s string) bool {
	return s != "" && only(s, func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' })
}

func only(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	return len(s) <= 1000 && only(s, func(c byte) bool { return c >= ' ' && c <= '~' })
}

// CheckTogether says what is wrong with declarations that are each right: names
// and users are of one service only, and each socket that is used is provided
// and allowed by its provider.
func CheckTogether(services []*Service) error {
	byName, byID := map[string]*Service{}, map[uint32]string{}
	for _, s := range services {
		if byName[s.Name] != nil {
			return fmt.Errorf("two services are called %s", s.Name)
		}
		if other, ok := byID[s.ID]; ok {
			return fmt.Errorf("services %s and %s are both user %d", other, s.Name, s.ID)
		}
		byName[s.Name], byID[s.ID] = s, s.Name
	}
	for _, s := range services {
		for _, n := range s.Start.Needs {
			if byName[n] == nil {
				return fmt.Errorf("service %s needs %s, which is not there", s.Name, n)
			}
		}
		for _, u := range s.Uses {
			from, name, _ := strings.Cut(u, "/")
			provider := byName[from]
			if provider == nil {
				return fmt.Errorf("service %s uses %s, and there is no service %s", s.Name, u, from)
			}
			at := slices.IndexFunc(provider.Provides, func(p Socket) bool { return p.Name == name })
			if at < 0 {
				return fmt.Errorf("service %s uses %s, which is not provided", s.Name, u)
			}
			if !slices.Contains(provider.Provides[at].Allow, s.Name) {
				return fmt.Errorf("service %s uses %s, which does not allow it", s.Name, u)
			}
		}
		for _, p := range s.Provides {
			for _, a := range p.Allow {
				if user := byName[a]; user != nil && !slices.Contains(user.Uses, s.Name+"/"+p.Name) {
					return fmt.Errorf("service %s allows %s at socket %s, which does not use it", s.Name, a, p.Name)
				}
			}
		}
	}
	if _, err := Order(services); err != nil {
		return err
	}
	return nil
}

// Order sorts services so that each comes behind those that it is after or
// needs; where they leave it open, by name.
func Order(services []*Service) ([]*Service, error) {
	left := slices.Clone(services)
	slices.SortFunc(left, func(a, b *Service) int { return strings.Compare(a.Name, b.Name) })
	var sorted []*Service
	for len(left) > 0 {
		at := slices.IndexFunc(left, func(s *Service) bool {
			return !slices.ContainsFunc(left, func(other *Service) bool {
				return slices.Contains(s.Start.After, other.Name) || slices.Contains(s.Start.Needs, other.Name)
			})
		})
		if at < 0 {
			var names []string
			for _, s := range left {
				names = append(names, s.Name)
			}
			return nil, errors.New("these services wait for each other: " + strings.Join(names, ", "))
		}
		sorted, left = append(sorted, left[at]), slices.Delete(left, at, at+1)
	}
	return sorted, nil
}
