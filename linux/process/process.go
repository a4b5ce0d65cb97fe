// Package process starts programs for PID 1, sends them signals and reaps
// whatever has ended (fork(2), execve(2), wait4(2)).
package process

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Spec is a program to start. Files are what it finds as descriptors 0, 1, 2, …
type Spec struct {
	Path     string
	Args     []string // without the program's own name
	Env      []string
	Files    []*os.File
	UID, GID uint32 // it has no other groups
	// Terminal makes descriptor 0 the controlling terminal of its session.
	Terminal bool
	// PIDs gives it a PID namespace of its own, whose first process it is: when it
	// ends, the kernel ends all that it has started.
	PIDs bool
	// Group is the folder of the control group that it starts in, or nil for ours.
	Group *os.File
}

// Start starts a program in a session of its own and returns its process id.
// The descriptors in Files stay open here. The program and its children can
// gain no rights by executing a file (PR_SET_NO_NEW_PRIVS).
func Start(s Spec) (pid int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The child inherits from the thread that forks. This one is never
		// unlocked: it ends with the goroutine and is not used again.
		runtime.LockOSThread()
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			pid, err = start(s)
		}
	}()
	<-done
	if err != nil {
		return 0, fmt.Errorf("cannot start %s: %w", s.Path, err)
	}
	return pid, nil
}

func start(s Spec) (int, error) {
	fds := make([]uintptr, len(s.Files))
	for i, f := range s.Files {
		fds[i] = f.Fd()
	}
	sys := &syscall.SysProcAttr{
		Setsid: true, Setctty: s.Terminal, Ctty: 0,
		Credential: &syscall.Credential{Uid: s.UID, Gid: s.GID},
	}
	if s.PIDs {
		sys.Cloneflags = unix.CLONE_NEWPID
	}
	if s.Group != nil {
		sys.UseCgroupFD, sys.CgroupFD = true, int(s.Group.Fd())
	}
	// ForkExec and not os.StartProcess: a Process would have to be waited for,
	// and PID 1 reaps everything in one place.
	return syscall.ForkExec(s.Path, append([]string{s.Path}, s.Args...),
		&syscall.ProcAttr{Dir: "/", Env: s.Env, Files: fds, Sys: sys})
}

// Exec becomes the program; it returns only when it could not.
func Exec(path string, env []string) error {
	return fmt.Errorf("cannot execute %s: %w", path, syscall.Exec(path, []string{path}, env))
}

// Pipe returns the two ends of a pipe, ours not blocking.
func Pipe() (ours, theirs *os.File, err error) {
	var fd [2]int
	if err := unix.Pipe2(fd[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	if err := unix.SetNonblock(fd[0], true); err != nil {
		return nil, nil, fmt.Errorf("cannot make a pipe: %w", errors.Join(err, unix.Close(fd[0]), unix.Close(fd[1])))
	}
	return os.NewFile(uintptr(fd[0]), "pipe"), os.NewFile(uintptr(fd[1]), "pipe"), nil
}

// Signal sends a signal to one process, which the caller has not reaped yet.
func Signal(pid int, s syscall.Signal) error {
	if err := unix.Kill(pid, s); err != nil && err != unix.ESRCH {
		return fmt.Errorf("cannot signal a process: %w", err)
	}
	return nil
}

// Ended is a process that is no more.
type Ended struct {
	PID int
	How string // "exit 1", "signal killed"
	OK  bool   // ended with exit code 0
}

// Reap collects one ended child, any. ok is false when none has ended.
func Reap() (e Ended, ok bool, err error) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD || err == nil && pid == 0:
			return Ended{}, false, nil
		case err != nil:
			return Ended{}, false, fmt.Errorf("cannot reap: %w", err)
		case ws.Signaled():
			return Ended{PID: pid, How: "signal " + ws.Signal().String()}, true, nil
		default:
			return Ended{PID: pid, How: fmt.Sprintf("exit %d", ws.ExitStatus()), OK: ws.ExitStatus() == 0}, true, nil
		}
	}
}

// KillAll sends a signal to every process but this one and kernel threads. That
// there is none is no error.
func KillAll(s syscall.Signal) error {
	if err := unix.Kill(-1, s); err != nil && err != unix.ESRCH {
		return fmt.Errorf("cannot signal all processes: %w", err)
	}
	return nil
}
