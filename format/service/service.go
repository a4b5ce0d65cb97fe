// Package service describes a confined service: everything that it may do, and
// nothing that it does not say. It prints and parses the sealed form, which
// stands in the verified image for PID 1 and the launcher; package declaration
// reads the TOML that people write.
//
// The format is Cloison's own (docs/formats.md). It needs nothing but the
// standard library.
package service

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"
)

// Where the build puts services in the core.
const (
	Folder   = "/usr/lib/cloison/services" // a folder for each service
	Launcher = "/usr/lib/cloison/launch"
	// Sockets is where PID 1 makes the sockets: a folder for each service that
	// provides some. A service that uses one finds it there in its own root.
	Sockets = "/run/services"
	// Networks is where PID 1 keeps the network namespaces by name.
	Networks = "/run/netns"
	// EmptyNetworks is where the launcher keeps those of services that have none.
	EmptyNetworks = "/run/netns.empty"
	// States has a folder for each service that keeps something.
	States = "/state/services"
	// Configurations is where configuration on the state volume lies.
	Configurations = "/state/configuration"
)

// SealedPath returns where the sealed declaration of a service is in the core.
func SealedPath(name string) string { return Folder + "/" + name + "/declaration" }

// RootPath returns the folder of the core that is the service's root.
func RootPath(name string) string { return Folder + "/" + name + "/root" }

// SocketPath returns the path of a socket that a service provides.
func SocketPath(name, socket string) string { return Sockets + "/" + name + "/" + socket }

// StateFolder returns the folder of the state volume below which a service has
// all that it keeps.
func StateFolder(name string) string { return States + "/" + name }

// StatePath returns the folder of the state volume that stands behind path in
// the root of a service.
func StatePath(name, inside string) string { return StateFolder(name) + "/" + path.Base(inside) }

// Connection is the descriptor of an instance that was started for one.
const Connection = "connection"

// Peers is the variable in which a service that provides sockets finds who may
// connect: NAME=ID, separated by commas.
const Peers = "CLOISON_PEERS"

// Boot is the variable in which every service finds the kernel's boot ID: 32
// hexadecimal digits.
const Boot = "CLOISON_BOOT"

// Threads is the environment of the launcher: it does one thing after the other,
// and a Go runtime that knows that starts in less time.
const Threads = "GOMAXPROCS=1"

// Words of the fields that choose.
const (
	None = "none"
	Own  = "own"

	Log     = "log"     // Stdio: nothing to read, and what it writes goes to the log
	Console = "console" // Stdio: the machine's console, as its controlling terminal

	Notify  = "notify"  // Ready: when it says so on its descriptor "notify"
	Started = "started" // Ready: when it is executed; its sockets are there before
	Ended   = "ended"   // Ready: when it has ended well; it is a task and is not started again

	Always  = "always"
	Failure = "failure"
	Never   = "never"

	Read  = "read"
	Write = "write" // reading, too

	Stream    = "stream"
	SeqPacket = "seqpacket"
	Datagram  = "datagram"
)

// Service is one declaration. The mount, PID, IPC, UTS and cgroup namespaces are
// not a choice: every service has its own.
type Service struct {
	Name      string   `toml:"name"`
	About     string   `toml:"about"` // one line for people
	ID        uint32   `toml:"-"`     // user and group, of nobody else; from image/services/ids
	Program   string   `toml:"program"`
	Arguments []string `toml:"arguments"` // without the program's own name
	// Files are plug-ins of the SDK, absolute paths, that a C program loads while
	// it runs: they are in its root with all that they need.
	Files       []string   `toml:"files"`
	Environment []Variable `toml:"environment"` // the whole environment
	Stdio       string     `toml:"stdio"`       // descriptors 0 to 2: Log or Console
	// Given are descriptors that PID 1 opens for it, by PID 1's names for them.
	Given []string `toml:"given"`

	Network      string     `toml:"network"` // None: an empty one of its own; else the name of one
	Proc         string     `toml:"proc"`    // None, or Own: its own processes and nothing else of /proc
	Sys          []string   `toml:"sys"`     // paths below /sys, read-only
	Capabilities []Reasoned `toml:"capabilities"`
	Devices      []Device   `toml:"devices"`
	Writable     []Writable `toml:"writable"`
	State        []string   `toml:"state"` // paths that last: folders of the state volume, of it alone, within Limits.State
	Config       []Config   `toml:"configuration"`
	Provides     []Socket   `toml:"provides"`
	Uses         []string   `toml:"uses"` // sockets of others: SERVICE/SOCKET
	// Accepts are ports of TCP in its network at which PID 1 takes connections:
	// each connection gets an instance of the service, which finds it under the
	// name Connection and has no other.
	Accepts  []Accept `toml:"accepts"`
	Seccomp  Seccomp  `toml:"seccomp"`
	Landlock Landlock `toml:"landlock"`
	Limits   Limits   `toml:"limits"`
	Start    Start    `toml:"start"`
}

// Variable is one variable of the environment.
type Variable struct {
	Name  string `toml:"name"`
	Value string `toml:"value"`
}

// Reasoned is a right that needs a reason.
type Reasoned struct {
	Name string `toml:"name"`
	Why  string `toml:"why"`
}

// Device is a device node, which is in the service's root under the same path.
type Device struct {
	Path   string `toml:"path"`
	Access string `toml:"access"` // Read or Write
	// Ioctls are the only ioctl commands that it may call, on this device or on
	// any other descriptor: numbers as the kernel has them.
	Ioctls []Ioctl `toml:"ioctls"`
	Why    string  `toml:"why"`
}

// Ioctl is one ioctl command.
type Ioctl struct {
	Name   string `toml:"name"` // the kernel's name for it
	Number uint32 `toml:"number"`
}

// Writable is a folder in memory, empty at each start, noexec.
type Writable struct {
	Path string `toml:"path"`
	Size Size   `toml:"size"`
}

// Config is a file or folder that the service can read and not write.
type Config struct {
	Source string `toml:"source"` // below Configurations
	Path   string `toml:"path"`   // in the service's root
}

// Socket is a Unix socket that PID 1 makes and this service gets, listening.
type Socket struct {
	Name string `toml:"name"`
	Type string `toml:"type"` // Stream, SeqPacket or Datagram
	Mode Mode   `toml:"mode"` // permission bits
	// Allow names the services that may connect; nobody else sees the socket.
	Allow []string `toml:"allow"`
}

// Accept is a port of TCP. Until PID 1 has started a session for a connection,
// nobody knows who is at its other end: such connections are few.
type Accept struct {
	Port    uint16 `toml:"port"`
	Waiting uint32 `toml:"waiting"` // connections without a session, at the same time
	Each    uint32 `toml:"each"`    // of them from one source
	Minute  uint32 `toml:"minute"`  // new connections from one source in a minute
}

// Seccomp lists the system calls. All others kill the service.
type Seccomp struct {
	Groups []string   `toml:"groups"` // of package seccomp
	Calls  []Reasoned `toml:"calls"`
}

// Landlock lists what may be opened, and which ports may be used, whatever the
// root and the network namespace would allow. The program itself and the
// libraries of its closure need no line. Abstract sockets and signals stay
// inside, always.
type Landlock struct {
	Read       []string `toml:"read"`  // files, or folders with all below
	Write      []string `toml:"write"` // reading, too; in folders making and removing
	TCPBind    []uint16 `toml:"tcp_bind"`
	TCPConnect []uint16 `toml:"tcp_connect"`
	UDPBind    []uint16 `toml:"udp_bind"` // 0: any that the kernel chooses
	UDPConnect []uint16 `toml:"udp_connect"`
}

// Limits are those of the whole service, but for the last three.
type Limits struct {
	Memory    Size   `toml:"memory"`
	Processes uint32 `toml:"processes"` // and threads
	CPU       uint32 `toml:"cpu"`       // per cent of one processor
	// State and StateFiles bound what lies in its folders of the state volume,
	// all of them together: blocks of 4096 bytes, and files and folders that it
	// makes. Both are 0 where it keeps nothing.
	State       Size   `toml:"state"`
	StateFiles  uint32 `toml:"state_files"`
	Descriptors uint32 `toml:"descriptors"`
	FileSize    Size   `toml:"file_size"`     // of one file that it writes
	LockedBytes Size   `toml:"locked_memory"` // 0: none
}

// Start says when the service is started, when it counts as ready, and what
// happens when it ends.
type Start struct {
	After    []string `toml:"after"`    // services that are ready before, if they are there
	Needs    []string `toml:"needs"`    // the same, and must be there
	Required bool     `toml:"required"` // the boot is good only when it is ready
	// Instances is how many may run at the same time of a service that is started
	// for each connection or each session; 0: it is started once, with the system.
	Instances uint32   `toml:"instances"`
	Ready     string   `toml:"ready"`   // Notify, Started or Ended
	Timeout   Duration `toml:"timeout"` // until it is ready
	// Watchdog is how long a service may say nothing on its descriptor "notify";
	// 0 is for ever.
	Watchdog Duration `toml:"watchdog"`
	Restart  string   `toml:"restart"` // Always, Failure or Never
	Delay    Duration `toml:"delay"`   // before the first restart; doubles at each
	Longest  Duration `toml:"longest"` // delay
	Stop     Duration `toml:"stop"`    // from SIGTERM to SIGKILL
}

// Size is a number of bytes. Its text is a number with one of the units B, KiB,
// MiB and GiB: "16 MiB"; the largest that divides it.
type Size uint64

var units = []struct {
	name string
	size Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (s Size) String() string {
	for _, u := range units {
		if s >= u.size && s%u.size == 0 {
			return fmt.Sprintf("%d %s", s/u.size, u.name)
		}
	}
	return "0 B"
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	number, unit, _ := strings.Cut(string(text), " ")
	n, err := decimal(number, 1<<40)
	for _, u := range units {
		if err == nil && u.name == unit {
			if *s = Size(n) * u.size; s.String() == string(text) && Size(n) <= maxSize/u.size {
				return nil
			}
		}
	}
	return fmt.Errorf("%q is not a size like 16 MiB", text)
}

// maxSize bounds sizes: more than any machine has.
const maxSize = 1 << 50

// Duration is a time span. Its text is a number of ms or s ("500ms", "2s"), or
// "none".
type Duration time.Duration

func (d Duration) String() string {
	t := time.Duration(d)
	switch {
	case t == 0:
		return None
	case t%time.Second == 0:
		return fmt.Sprintf("%ds", t/time.Second)
	}
	return fmt.Sprintf("%dms", t/time.Millisecond)
}

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	s, unit := string(text), time.Second
	number, ok := strings.CutSuffix(s, "ms")
	if ok {
		unit = time.Millisecond
	} else {
		number = strings.TrimSuffix(s, "s")
	}
	n, err := decimal(number, 1<<32)
	if s == None {
		n, err = 0, nil
	}
	if *d = Duration(time.Duration(n) * unit); err != nil || d.String() != s {
		return fmt.Errorf("%q is not a duration like 500ms, 2s or none", text)
	}
	return nil
}

// Mode is permission bits. Its text is four octal digits: "0660".
type Mode uint32

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// UnmarshalText reads a mode.
func (m *Mode) UnmarshalText(text []byte) error {
	*m = 0
	for _, c := range text {
		if c < '0' || c > '7' || len(text) != 4 {
			return fmt.Errorf("%q is not a mode like 0660", text)
		}
		*m = *m<<3 | Mode(c-'0')
	}
	if m.String() != string(text) || *m > 0o777 {
		return fmt.Errorf("%q is not a mode like 0660", text)
	}
	return nil
}

// decimal reads a number that is written as it would be printed.
func decimal(s string, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > most || len(s) > 1 && (s[0] == '0' || s[0] == '+') {
		return 0, fmt.Errorf("%q is not a number up to %d", s, most)
	}
	return n, nil
}

// Descriptors names what the service finds from descriptor 3 on: its connection,
// or "notify" if it has to tell when it is ready or that it lives, its sockets,
// then what is given. The launcher tells it by LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES
// (sd_listen_fds(3)).
//
// PID 1 starts the launcher as Launcher NAME, with no environment but Threads, Boot, and
// Peers where the service provides a socket, as the first process of a new PID
// namespace (CLONE_NEWPID) and in the service's cgroup (CLONE_INTO_CGROUP), with
// these descriptors in their places and one more behind them: the status. The
// launcher writes one line to it when it cannot start the service; when it has,
// the descriptor is closed and empty.
func (s *Service) Descriptors() []string {
	var names []string
	switch {
	case len(s.Accepts) > 0:
		// That it is ready, PID 1 knows from the session that it asks for.
		names = append(names, Connection)
	case s.Start.Ready == Notify || s.Start.Watchdog != 0:
		names = append(names, Notify)
	}
	for _, p := range s.Provides {
		names = append(names, p.Name)
	}
	return append(names, s.Given...)
}

// Ours reports whether the program is compiled from cmd of the source tree, and
// from which folder; others are taken from the SDK.
func (s *Service) Ours() (folder string, ok bool) {
	folder, ok = strings.CutPrefix(s.Program, "/usr/lib/cloison/")
	return folder, ok
}

// Places returns what a service's root has to mount on, absolute paths: folders,
// and empty files for the sockets that it uses.
func (s *Service) Places() (folders, files []string) {
	if s.Proc == Own {
		folders = append(folders, "/proc")
	}
	if len(s.Devices) > 0 {
		folders = append(folders, "/dev")
	}
	folders = append(folders, s.Sys...)
	for _, w := range s.Writable {
		folders = append(folders, w.Path)
	}
	folders = append(folders, s.State...)
	for _, c := range s.Config {
		folders = append(folders, c.Path)
	}
	for _, u := range s.Uses {
		from, socket, _ := strings.Cut(u, "/")
		files = append(files, SocketPath(from, socket))
	}
	return folders, files
}
