package probe

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

const (
	read, write, exec = syscall.PROT_READ, syscall.PROT_WRITE, syscall.PROT_EXEC

	shared, private, anonymous = syscall.MAP_SHARED, syscall.MAP_PRIVATE, syscall.MAP_ANON
	growsDown                  = syscall.MAP_GROWSDOWN

	page = 4096
)

// turn maps memory, writes code to it and makes it executable.
func turn(flags uintptr, protect func(at uintptr) error) (string, error) {
	at, err := system(syscall.SYS_MMAP, 0, page, read|write, flags, minusOne, 0)
	if err != nil {
		return "", err
	}
	fill(at, returns)
	if err := protect(at); err != nil {
		return "", err
	}
	return run(at)
}

func executable(at uintptr) error {
	_, err := system(syscall.SYS_MPROTECT, at, page, read|exec)
	return err
}

// twice maps one file writable and executable.
func twice(fd uintptr) (string, error) {
	if _, err := system(syscall.SYS_FTRUNCATE, fd, page); err != nil {
		return "", err
	}
	w, err := system(syscall.SYS_MMAP, 0, page, read|write, shared, fd, 0)
	if err != nil {
		return "", err
	}
	x, err := system(syscall.SYS_MMAP, 0, page, read|exec, shared, fd, 0)
	if err != nil {
		return "", err
	}
	fill(w, returns)
	return run(x)
}

func memfd(flags int) (uintptr, error) { return system(sysMemfdCreate, "x", flags) }

// memory tries to execute what was written to memory.
func memory() []Attempt {
	// Some function of this program: its page is executable and not writable.
	text := func() uintptr {
		f := short
		return **(**uintptr)(unsafe.Pointer(&f)) &^ (page - 1)
	}
	return group(
		"memory",
		way("map memory writable and executable", func() (string, error) {
			at, err := system(syscall.SYS_MMAP, 0, page, read|write|exec, private|anonymous, minusOne, 0)
			if err != nil {
				return "", err
			}
			fill(at, returns)
			return run(at)
		}),
		way("map shared memory writable and executable", func() (string, error) {
			at, err := system(syscall.SYS_MMAP, 0, page, read|write|exec, shared|anonymous, minusOne, 0)
			if err != nil {
				return "", err
			}
			fill(at, returns)
			return run(at)
		}),
		way("make written memory executable", func() (string, error) { return turn(private|anonymous, executable) }),
		way("make written shared memory executable", func() (string, error) { return turn(shared|anonymous, executable) }),
		way("make written memory executable by pkey_mprotect", func() (string, error) {
			return turn(private|anonymous, func(at uintptr) error {
				_, err := system(sysPkeyMprotect, at, page, read|exec, minusOne)
				return err
			})
		}),
		way("make a stack executable", func() (string, error) {
			return turn(private|anonymous|growsDown, func(at uintptr) error {
				_, err := system(syscall.SYS_MPROTECT, at, page, read|exec|syscall.PROT_GROWSDOWN)
				return err
			})
		}),
		way("make the heap executable", func() (string, error) {
			end, err := system(syscall.SYS_BRK, 0)
			if err != nil {
				return "", err
			}
			grown, err := system(syscall.SYS_BRK, (end+2*page)&^(page-1))
			if err != nil {
				return "", err
			}
			at := (grown - page) &^ (page - 1)
			fill(at, returns)
			if err := executable(at); err != nil {
				return "", err
			}
			return run(at)
		}),
		way("have all readable memory executable by personality", func() (string, error) {
			if _, err := system(syscall.SYS_PERSONALITY, 0x0400000); err != nil { // READ_IMPLIES_EXEC
				return "", err
			}
			defer func() { _, _ = system(syscall.SYS_PERSONALITY, 0) }() // as it was
			return turn(private|anonymous, func(at uintptr) error {
				_, err := system(syscall.SYS_MPROTECT, at, page, read)
				if err == nil {
					err = executableNow(at)
				}
				return err
			})
		}),
		way("make this program's code writable", func() (string, error) {
			_, err := system(syscall.SYS_MPROTECT, text(), page, read|write|exec)
			return "the page of a function can be written", err
		}),
		way("write to this program's code through /proc/self/mem", func() (string, error) {
			f, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
			if err != nil {
				return "", err
			}
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, int64(text())); err != nil {
				return "", err
			}
			_, err = f.WriteAt(b, int64(text()))
			return "code can be written", err
		}),
		way("write to this program's code by process_vm_writev", func() (string, error) {
			b := []byte{0}
			local := []uint64{uint64(uintptr(unsafe.Pointer(&b[0]))), 1}
			if _, err := system(sysProcessVMReadv, os.Getpid(), local, 1, []uint64{uint64(text()), 1}, 1, 0); err != nil {
				return "", err
			}
			_, err := system(sysProcessVMWritev, os.Getpid(), local, 1, []uint64{uint64(text()), 1}, 1, 0)
			return "code can be written", err
		}),
		way("execute a memfd", func() (string, error) {
			fd, err := memfd(0)
			if err != nil {
				return "", err
			}
			if _, err := syscall.Write(int(fd), program()); err != nil {
				return "", err
			}
			_, err = system(sysExecveat, fd, "", []uint64{0}, []uint64{0}, emptyPath)
			return "", err
		}),
		way("execute a memfd that asks to be executable", func() (string, error) {
			fd, err := memfd(0x10) // MFD_EXEC
			if err != nil {
				return "", err
			}
			if _, err := syscall.Write(int(fd), program()); err != nil {
				return "", err
			}
			_, err = system(sysExecveat, fd, "", []uint64{0}, []uint64{0}, emptyPath)
			return "", err
		}),
		way("execute a memfd after a change of its mode", func() (string, error) {
			fd, err := memfd(8) // MFD_NOEXEC_SEAL
			if err != nil {
				return "", err
			}
			if _, err := syscall.Write(int(fd), program()); err != nil {
				return "", err
			}
			if err := syscall.Fchmod(int(fd), 0o777); err != nil {
				return "", err
			}
			_, err = system(sysExecveat, fd, "", []uint64{0}, []uint64{0}, emptyPath)
			return "", err
		}),
		way("map a memfd writable and executable at two places", func() (string, error) {
			fd, err := memfd(0)
			if err != nil {
				return "", err
			}
			return twice(fd)
		}),
		way("map secret memory executable", func() (string, error) {
			fd, err := system(sysMemfdSecret, 0)
			if err != nil {
				return "", err
			}
			return twice(fd)
		}),
		way("map a file of /tmp writable and executable at two places", func() (string, error) { return twiceFile("/tmp/twice") }),
		way("map a file of the state volume writable and executable at two places", func() (string, error) { return twiceFile(state() + "/twice") }),
		way("map a written file of /tmp executable", func() (string, error) { return mapFile("/tmp/code") }),
		way("map a written file of the state volume executable", func() (string, error) { return mapFile(state() + "/code") }),
		way("attach System V memory executable", func() (string, error) {
			id, err := system(syscall.SYS_SHMGET, 0, page, 0o1700)
			if err != nil {
				return "", err
			}
			at, err := system(syscall.SYS_SHMAT, id, 0, 0o100000) // SHM_EXEC
			if err != nil {
				return "", err
			}
			fill(at, returns)
			return run(at)
		}),
		call("allow writable and executable memory again", syscall.SYS_PRCTL, 65, 0, 0, 0, 0), // PR_SET_MDWE
		call("make a shadow stack to return through", sysMapShadowStack, 0, page, 0),
		call("exchange the memory map", syscall.SYS_PRCTL, 35, 14, unsafe.Pointer(&mapping), unsafe.Sizeof(mapping), 0), // PR_SET_MM, PR_SET_MM_MAP
		call("load a segment descriptor", syscall.SYS_MODIFY_LDT, 1, segment[:], len(segment)),
		call("load a library by uselib", syscall.SYS_USELIB, "/tmp/library"),
	)
}

// mapping is a struct prctl_mm_map of zeros, segment a struct user_desc of one.
var (
	mapping [104]byte
	segment = [16]byte{12: 0x11}
)

// executableNow calls code only where the kernel says that it is executable.
func executableNow(at uintptr) error {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for line := range splitLines(string(maps)) {
		var from, to uintptr
		var rights string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &rights); err == nil && from <= at && at < to {
			if rights[2] == 'x' {
				return nil
			}
			return syscall.EACCES
		}
	}
	return syscall.ENOENT
}

func twiceFile(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o700)
	if err != nil {
		return "", err
	}
	return twice(f.Fd())
}

func mapFile(path string) (string, error) {
	if err := create(path, returns); err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	at, err := system(syscall.SYS_MMAP, 0, page, read|exec, private, f.Fd(), 0)
	if err != nil {
		return "", err
	}
	return run(at)
}
