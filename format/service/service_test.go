package service

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// full has something in every field.
func full() *Service {
	return &Service{
		Name: "timed", About: "keeps the clock right", ID: 903, Program: "/usr/sbin/timed",
		Arguments: []string{"-x", ""}, Files: []string{"/usr/lib/x.so"}, Environment: []Variable{{"TZ", "UTC = 0"}},
		Stdio: Log, Given: []string{"kernel-log"}, Network: "outside", Proc: Own, Sys: []string{"/sys/class/rtc"},
		Capabilities: []Reasoned{{"CAP_SYS_TIME", "sets the clock"}},
		Devices:      []Device{{"/dev/rtc0", Write, []Ioctl{{"RTC_SET_TIME", 0x4024700a}}, "the clock of the machine"}},
		Writable:     []Writable{{"/tmp", 1 << 20}}, State: []string{"/var/lib/timed"},
		Config:   []Config{{"/state/configuration/time", "/etc/time"}},
		Provides: []Socket{{"control", Stream, 0o666, []string{"console"}}}, Uses: []string{"logd/events"},
		Seccomp:  Seccomp{[]string{"runtime"}, []Reasoned{{"clock_settime", "sets the clock"}}},
		Landlock: Landlock{[]string{"/etc/time"}, []string{"/tmp", "/dev/rtc0"}, []uint16{1}, []uint16{2, 3}, []uint16{0}, []uint16{123}},
		Limits:   Limits{32 << 20, 16, 50, 8 << 20, 64, 32, 1 << 20, 4096},
		Start: Start{
			[]string{"entropy"},
			[]string{"logd"},
			true, 0, Notify, Duration(30 * time.Second), Duration(time.Minute),
			Failure, Duration(500 * time.Millisecond), Duration(30 * time.Second), Duration(2 * time.Second),
		},
	}
}

func TestSealed(t *testing.T) {
	s := full()
	text, err := s.Print()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(text)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("Parse(Print(%+v)) = %+v, %v", s, got, err)
	}
	for _, part := range []string{"cloison service 2\nname=timed\n", "\nargument#=2\nargument=-x\nargument=\nfile#=1\n", "\nport=2\nport=3\n", "\nrequired=1\n"} {
		if !strings.Contains(text, part) {
			t.Errorf("Print has no %q:\n%s", part, text)
		}
	}
	// The form has every field: a change of any is a change of the text.
	for i := range strings.Count(text, "\n") {
		lines := strings.SplitAfter(text, "\n")
		if _, err := Parse(strings.Join(slices.Delete(lines, i, i+1), "")); err == nil {
			t.Errorf("Parse took a declaration without its line %d", i+1)
		}
	}
	for _, bad := range []string{"", heading, text + "\n", text + "x=\n", strings.Replace(text, "=32\n", "=032\n", 1), strings.Replace(text, "required=1", "required=2", 1), strings.Replace(text, "argument#=2", "argument#=99999999", 1), strings.TrimSuffix(text, "\n")} {
		if got, err := Parse(bad); err == nil {
			t.Errorf("Parse(%q) = %+v", bad, got)
		}
	}
}

// instance is started for each connection.
func instance() *Service {
	s := full()
	s.Name, s.Provides, s.State = "sshd", nil, nil
	s.Limits.State, s.Limits.StateFiles = 0, 0
	s.Accepts = []Accept{{22, 8, 2, 30}}
	s.Start = Start{Instances: 16, Ready: Notify, Timeout: Duration(30 * time.Second), Restart: Never, Stop: Duration(time.Second)}
	return s
}

func TestInstances(t *testing.T) {
	s := instance()
	text, err := s.Print()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(text); err != nil || !reflect.DeepEqual(got.Accepts, s.Accepts) || got.Start.Instances != 16 {
		t.Errorf("Parse(Print(%+v)) = %+v, %v", s, got, err)
	}
	if got := s.Descriptors(); !slices.Equal(got, []string{"connection", "kernel-log"}) {
		t.Errorf("Descriptors() = %q", got)
	}
	for want, change := range map[string]func(*Service){
		"more than 64":                func(s *Service) { s.Start.Instances = 65 },
		"more than one port":          func(s *Service) { s.Accepts = append(s.Accepts, Accept{23, 8, 2, 30}) },
		"accepts.port is 0":           func(s *Service) { s.Accepts[0].Port = 0 },
		"nothing behind it":           func(s *Service) { s.Network, s.Landlock = None, Landlock{} },
		"accepts.waiting = 17":        func(s *Service) { s.Accepts[0].Waiting = 17 },
		"accepts.waiting = 8":         func(s *Service) { s.Start.Instances = 0 },
		"accepts.each = 0":            func(s *Service) { s.Accepts[0].Each = 0 },
		"accepts.minute = 0":          func(s *Service) { s.Accepts[0].Minute = 0 },
		"a connection waits":          func(s *Service) { s.Start.Ready = Started },
		"stdio = \"console\"":         func(s *Service) { s.Stdio = Console },
		"which of them he means":      func(s *Service) { s.Provides = full().Provides },
		"they would share it":         func(s *Service) { s.State, s.Limits = []string{"/state/x"}, full().Limits },
		"start of instances":          func(s *Service) { s.Start.Required = true },
		"start of instances is":       func(s *Service) { s.Start.Watchdog = Duration(time.Second) },
		"start of instances is re":    func(s *Service) { s.Start.After = []string{"logd"} },
		"start of instances is resta": func(s *Service) { s.Start.Restart, s.Start.Delay, s.Start.Longest = Always, 1e9, 1e9 },
	} {
		s := instance()
		change(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check = %v, want %s", err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	if err := (&Service{}).Check(); err == nil {
		t.Error("the zero declaration is right")
	}
	if err := full().Check(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Service){
		"name = ":                      func(s *Service) { s.Name = "Time" },
		"the user 0":                   func(s *Service) { s.ID = 0 },
		"about = ":                     func(s *Service) { s.About = "" },
		"not below /usr":               func(s *Service) { s.Program = "/state/x" },
		"absolute path":                func(s *Service) { s.Program = "/usr/../state" },
		"SDK only":                     func(s *Service) { s.Program = "/usr/lib/cloison/timed" },
		"files has":                    func(s *Service) { s.Files = []string{"/etc/passwd"} },
		"must not set":                 func(s *Service) { s.Environment[0].Name = "LD_PRELOAD" },
		"unprintable":                  func(s *Service) { s.Environment[0].Value = "a\nb" },
		"stdio = ":                     func(s *Service) { s.Stdio = "" },
		"twice":                        func(s *Service) { s.Given = []string{"control"} },
		"network = ":                   func(s *Service) { s.Network = "" },
		"proc = ":                      func(s *Service) { s.Proc = "all" },
		"below /sys":                   func(s *Service) { s.Sys = []string{"/proc/x"} },
		"not in /dev":                  func(s *Service) { s.Devices[0].Path = "/sys/x" },
		"devices.why":                  func(s *Service) { s.Devices[0].Why = "" },
		"writable.size":                func(s *Service) { s.Writable[0].Size = 0 },
		"cannot lie in /proc":          func(s *Service) { s.Proc, s.Writable[0].Path = None, "/proc/x" },
		"cannot lie in /dev":           func(s *Service) { s.State = []string{"/dev/shm"} },
		"/tmp/x is in /tmp":            func(s *Service) { s.State = []string{"/tmp/x"} },
		"is in /usr":                   func(s *Service) { s.Writable[0].Path = "/usr/tmp" },
		"/run/services is in /run":     func(s *Service) { s.Writable[0].Path = "/run" },
		"configuration.source":         func(s *Service) { s.Config[0].Source = "/state/services/x" },
		"provides.type":                func(s *Service) { s.Provides[0].Type = "raw" },
		"provides.mode":                func(s *Service) { s.Provides[0].Mode = 0o777 },
		"SERVICE/SOCKET":               func(s *Service) { s.Uses = []string{"timed/control"} },
		"no service can have":          func(s *Service) { s.Capabilities[0].Name = "CAP_SYS_ADMIN" },
		"capabilities.why":             func(s *Service) { s.Capabilities[0].Why = "" },
		"seccomp.groups is":            func(s *Service) { s.Seccomp.Groups = nil },
		"seccomp.calls.why":            func(s *Service) { s.Seccomp.Calls[0].Why = "" },
		"nothing makes writable":       func(s *Service) { s.Devices[0].Access = Read },
		"port 0":                       func(s *Service) { s.Landlock.UDPConnect[0] = 0 },
		"not in order":                 func(s *Service) { s.Landlock.TCPConnect = []uint16{3, 2} },
		"nothing behind them":          func(s *Service) { s.Network = None },
		"limits.memory":                func(s *Service) { s.Limits.Memory = 0 },
		"limits.processes":             func(s *Service) { s.Limits.Processes = 0 },
		"limits.cpu":                   func(s *Service) { s.Limits.CPU = 0 },
		"limits.descriptors":           func(s *Service) { s.Limits.Descriptors = 10 },
		"limits.state = 0 B":           func(s *Service) { s.Limits.State = 0 },
		"limits.state = 1 B":           func(s *Service) { s.Limits.State = 1 },
		"limits.state = 8 MiB":         func(s *Service) { s.State, s.Landlock.Write = nil, nil },
		"limits.state_files = 0":       func(s *Service) { s.Limits.StateFiles = 0 },
		"\"file_setattr\", which no":   func(s *Service) { s.Seccomp.Calls[0].Name = "file_setattr" },
		"for files and no device":      func(s *Service) { s.Devices[0].Ioctls[0].Number = 0x401c5820 }, // FS_IOC_FSSETXATTR
		"limits.locked_memory":         func(s *Service) { s.Limits.LockedBytes = 1 << 40 },
		"the service itself":           func(s *Service) { s.Start.Needs = []string{"timed"} },
		"start.ready":                  func(s *Service) { s.Start.Ready = "" },
		"start.restart":                func(s *Service) { s.Start.Restart = "sometimes" },
		"nothing waits for ever":       func(s *Service) { s.Start.Timeout = 0 },
		"start.delay":                  func(s *Service) { s.Start.Delay = 0 },
		"start.longest":                func(s *Service) { s.Start.Longest = 0 },
		"start.watchdog is not for":    func(s *Service) { s.Start.Ready = Ended },
		"start has a duration of -1ms": func(s *Service) { s.Start.Stop = -Duration(time.Millisecond) },
	} {
		s := full()
		change(s)
		err := s.Check()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check = %v, want %q", err, want)
		}
		if text, err := s.Print(); err == nil {
			t.Errorf("Print printed a declaration that is wrong:\n%s", text)
		}
	}
}

func TestPlaces(t *testing.T) {
	folders, files := full().Places()
	if want := []string{"/proc", "/dev", "/sys/class/rtc", "/tmp", "/var/lib/timed", "/etc/time"}; !slices.Equal(folders, want) {
		t.Errorf("folders %q, want %q", folders, want)
	}
	if want := []string{"/run/services/logd/events"}; !slices.Equal(files, want) {
		t.Errorf("files %q, want %q", files, want)
	}
}

func TestTexts(t *testing.T) {
	for text, want := range map[string]Size{"0 B": 0, "1 B": 1, "4 KiB": 4096, "1536 KiB": 3 << 19, "3 GiB": 3 << 30} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); got != want || err != nil || want.String() != text {
			t.Errorf("size %q = %d, %v, want %d, printed %v", text, got, err, want, want)
		}
	}
	for _, text := range []string{"", "1", "B", "1B", " 1 B", "01 B", "+1 B", "1024 B", "-1 B", "1 MB", "99999999 GiB", "1 B "} {
		if err := new(Size).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("size %q is taken", text)
		}
	}
	for text, want := range map[string]time.Duration{"none": 0, "1ms": time.Millisecond, "1500ms": 1500 * time.Millisecond, "90s": 90 * time.Second} {
		var got Duration
		if err := got.UnmarshalText([]byte(text)); time.Duration(got) != want || err != nil || got.String() != text {
			t.Errorf("duration %q = %d, %v, want %d, printed %v", text, got, err, want, got)
		}
	}
	for _, text := range []string{"", "0s", "0ms", "1000ms", "1m", "s", "-1s", "1", "1.5s", "nones"} {
		if err := new(Duration).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("duration %q is taken", text)
		}
	}
	var mode Mode
	if err := mode.UnmarshalText([]byte("0640")); mode != 0o640 || err != nil {
		t.Errorf("mode 0640 = %v, %v", mode, err)
	}
	for _, text := range []string{"", "640", "1777", "0688", "06400"} {
		if err := mode.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("mode %q is taken", text)
		}
	}
}

func TestIDs(t *testing.T) {
	ids, err := ParseIDs("# x\n\nlogd 902 # the log\nprobe  905\n")
	if err != nil || !reflect.DeepEqual(ids, IDs{"logd": 902, "probe": 905}) {
		t.Errorf("ParseIDs = %v, %v", ids, err)
	}
	for _, text := range []string{"a", "a 900", "a 1000", "a 0902", "a 902 x", "a 903\nb 902", "a 902\nb 902", "a 902\na 903", "A 902"} {
		if ids, err := ParseIDs(text); err == nil {
			t.Errorf("ParseIDs(%q) = %v", text, ids)
		}
	}
}

func TestTogether(t *testing.T) {
	make3 := func() []*Service {
		a, b, c := &Service{Name: "a", ID: 1}, &Service{Name: "b", ID: 2}, &Service{Name: "c", ID: 3}
		a.Provides = []Socket{{"s", Stream, 0o666, []string{"b", "elsewhere"}}}
		b.Uses = []string{"a/s"}
		a.Start.Needs, b.Start.After = []string{"c"}, []string{"elsewhere"}
		return []*Service{a, b, c}
	}
	if err := CheckTogether(make3()); err != nil {
		t.Error(err)
	}
	sorted, err := Order(make3())
	if err != nil || sorted[0].Name != "b" || sorted[1].Name != "c" || sorted[2].Name != "a" {
		t.Errorf("Order = %v, %v, want b, c, a", sorted, err)
	}
	for want, change := range map[string]func(a, b, c *Service){
		"two services":           func(a, b, c *Service) { c.Name = "a" },
		"are both user":          func(a, b, c *Service) { c.ID = 1 },
		"needs d, which":         func(a, b, c *Service) { c.Start.Needs = []string{"d"} },
		"there is no service":    func(a, b, c *Service) { c.Uses = []string{"d/s"} },
		"not provided":           func(a, b, c *Service) { c.Uses = []string{"a/x"} },
		"does not allow it":      func(a, b, c *Service) { c.Uses = []string{"a/s"} },
		"which does not use it":  func(a, b, c *Service) { b.Uses = nil },
		"wait for each other: a": func(a, b, c *Service) { c.Start.After = []string{"a"} },
	} {
		s := make3()
		change(s[0], s[1], s[2])
		if err := CheckTogether(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("CheckTogether = %v, want %q", err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, err := full().Print()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := s.Print(); err != nil || again != text {
			t.Errorf("Print(Parse(%q)) = %q, %v", text, again, err)
		}
	})
}
