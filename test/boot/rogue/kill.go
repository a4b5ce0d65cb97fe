package rogue

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cloison/linux/cgroup"
)

// kill ends services at random for some seconds; killLong for ten minutes. All
// have to come back, and PID 1 must hold then what it held before.
// For long it is no faster than services recover: ten ends in a row would be
// taken for a service that does not work.
func (r *rogue) kill() error     { return r.kills(20*time.Second, time.Second) }
func (r *rogue) killLong() error { return r.kills(10*time.Minute, 12*time.Second) }

// poll is how often it looks whether a service is there again, and patience how
// long it may take: longer than the longest pause that a declaration has.
const (
	poll     = 50 * time.Millisecond
	patience = 60 * time.Second
)

func (r *rogue) kills(long, pause time.Duration) error {
	before, err := settled()
	if err != nil {
		return err
	}
	groups, err := filepath.Glob(filepath.Join(cgroup.Root, "services/*"))
	if err != nil {
		return err
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	killed := map[string]int{}
	total := 0
	var dirs []string
	for _, g := range groups {
		if info, err := os.Stat(g); err == nil && info.IsDir() {
			dirs = append(dirs, g)
		}
	}
	for end := time.Now().Add(long); time.Now().Before(end) || len(killed) < len(dirs); {
		group := dirs[random.IntN(len(dirs))]
		old, err := await(group, 0)
		if err != nil {
			return err
		}
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			return err
		}
		killed[filepath.Base(group)]++
		total++
		<-time.After(time.Duration(random.Int64N(int64(pause))))
		// Sometimes the next one follows before this one is there again.
		if random.IntN(2) == 0 {
			if _, err := await(group, old); err != nil {
				return err
			}
		}
	}
	for _, group := range dirs {
		if _, err := await(group, 0); err != nil {
			return err
		}
	}
	// What is done about the last ones may still be going on: it has to come to
	// the same numbers.
	var after holding
	for until := time.Now().Add(patience); ; {
		if after, err = held(); err != nil {
			return err
		}
		if !after.beyond(before) || time.Now().After(until) {
			break
		}
		<-time.After(poll)
	}
	var counts []string
	for _, name := range slices.Sorted(maps.Keys(killed)) {
		counts = append(counts, fmt.Sprintf("%s %d", name, killed[name]))
	}
	r.say("seed %d, in %v: %s", seed, long, strings.Join(counts, ", "))
	r.say("killed %d times, %d services; PID 1 held %v before and %v after: %s", total, len(killed), before, after,
		map[bool]string{true: "it leaks", false: "nothing leaks"}[after.beyond(before)])
	return nil
}

// await waits until a group has a process that is not old.
func await(group string, old int) (pid int, err error) {
	for until := time.Now().Add(patience); time.Now().Before(until); {
		b, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			return 0, err
		}
		if f := strings.Fields(string(b)); len(f) > 0 {
			if pid, err = strconv.Atoi(f[0]); err != nil || pid != old {
				return pid, err
			}
		}
		<-time.After(poll)
	}
	return 0, fmt.Errorf("%s did not come back in %v", filepath.Base(group), patience)
}

// holding counts what could leak.
type holding struct{ descriptors, groups, mounts, sockets, zombies int }

// settled counts when nothing changes any more: launchers of the last services may
// still be heard.
func settled() (h holding, err error) {
	for {
		before, err := held()
		if err != nil {
			return h, err
		}
		<-time.After(time.Second)
		if h, err = held(); err != nil || h == before {
			return h, err
		}
	}
}

// beyond tells whether there is more of anything than there was.
func (h holding) beyond(was holding) bool {
	return h.descriptors > was.descriptors || h.groups > was.groups || h.mounts > was.mounts || h.sockets > was.sockets || h.zombies > was.zombies
}

func (h holding) String() string {
	return fmt.Sprintf("%d descriptors, %d groups, %d mounts, %d socket files, %d zombies", h.descriptors, h.groups, h.mounts, h.sockets, h.zombies)
}

func held() (h holding, err error) {
	fds, err1 := os.ReadDir("/proc/self/fd")
	mounts, err2 := os.ReadFile("/proc/self/mounts")
	count := func(root string, what func(fs.DirEntry) bool, n *int) error {
		return filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && what(d) {
				*n++
			}
			return err
		})
	}
	err3 := count(cgroup.Root, fs.DirEntry.IsDir, &h.groups)
	err4 := count("/run", func(d fs.DirEntry) bool { return d.Type() == fs.ModeSocket }, &h.sockets)
	h.descriptors, h.mounts = len(fds), strings.Count(string(mounts), "\n")
	stats, err5 := filepath.Glob("/proc/[0-9]*/stat")
	for _, s := range stats {
		b, err := os.ReadFile(s)
		if err != nil {
			continue // it ended meanwhile
		}
		// The name in parentheses may hold anything; the state follows it.
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		if strings.HasPrefix(rest, "Z") {
			h.zombies++
		}
	}
	return h, errors.Join(err1, err2, err3, err4, err5)
}
