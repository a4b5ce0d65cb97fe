// Package machine runs Cloison's disk in a virtual machine that has what a
// real one has: UEFI firmware with Secure Boot in System Management Mode, a
// TPM 2.0, a watchdog and a serial line, and a network only where a test wants one.
//
// It needs QEMU, OVMF and swtpm of the SDK and runs them in the SDK's
// namespaces. What is to outlive one run (firmware variables with the
// enrolled keys, the TPM's state, the disk as the machine left it) is in a
// [Folder]. QEMU, swtpm and their namespaces end with the program that
// started them, however that ends.
//
// Sources: QEMU's manual (System Emulation; QMP reference), swtpm(8), OVMF's
// README, UEFI 2.10 section 32.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"cloison/format/hint"
	"cloison/host/sdk"
)

// DefaultMemory is what a machine gets when nothing is asked, in MiB.
const DefaultMemory = 256

// Config says what machine to start.
type Config struct {
	SDK    *sdk.SDK
	Folder *Folder // locked by the caller; its disk is what boots

	Memory      int         // MiB; 0: DefaultMemory
	CPUs        int         // 0: 2
	Accelerator Accelerator // zero: TCG; Probe finds the best
	SMBIOS      []string    // type 11 strings (OEM strings) handed to the guest
	NoReboot    bool        // a reset ends the machine
	NoTPM       bool        // the machine has none; the folder's is not touched
	// Network gives it an interface at the PCI function 0000:00:10.0, behind
	// QEMU's own router: 10.0.2.15/24, and the host is 10.0.2.2. Forwards are
	// QEMU's rules for what reaches the guest, tcp:127.0.0.1:PORT-:PORT.
	Network  bool
	Forwards []string
	Extra    []string // more QEMU arguments, for tests
}

// Machine is one running machine.
type Machine struct {
	// Console is the guest's first serial line.
	Console *Console

	cancel context.CancelFunc
	qmp    *qmp
	qemu   *exec.Cmd
	tpm    *exec.Cmd
	stderr *tail
	once   bool // a reset ends it

	done  chan struct{} // closed when both processes have ended
	exit  Exit
	err   error
	close sync.Once
}

// Exit says how a machine ended.
type Exit struct {
	// Reason is QMP's ShutdownCause: guest-shutdown, guest-reset,
	// host-qmp-quit, host-signal, …
	Reason string
	// Resets counts how often the machine was reset before it ended.
	Resets int
	// Watchdog tells whether the watchdog bit.
	Watchdog bool
}

// Firmware files of the SDK. The secboot build refuses to change variables
// outside of System Management Mode.
const (
	firmwareCode = "usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
	firmwareVars = "usr/share/OVMF/OVMF_VARS_4M.fd"
)

// tools are the programs of the SDK that a machine is made of.
var tools = []struct{ path, pkg string }{
	{"usr/bin/qemu-system-x86_64", "qemu-system-x86"},
	{"usr/bin/swtpm", "swtpm"},
	{firmwareCode, "ovmf"},
	{firmwareVars, "ovmf"},
}

func checkTools(s *sdk.SDK) error {
	for _, tool := range tools {
		if _, err := os.Stat(s.Path(tool.path)); err != nil {
			return hint.Wrap(fmt.Errorf("cannot start machine: the SDK has no %s", tool.path),
				"the SDK's package list must have %s", tool.pkg)
		}
	}
	return nil
}

// Start starts the TPM and the machine. Cancelling ctx ends both. The caller
// must call Close, also after Wait.
func Start(ctx context.Context, c Config) (_ *Machine, err error) {
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Accelerator.Name == "" {
		c.Accelerator = Accelerator{Name: "tcg"}
	}
	if err := checkTools(c.SDK); err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.Folder.Disk()); err != nil {
		return nil, hint.Wrap(fmt.Errorf("cannot start machine: no disk: %w", err),
			"build the image first: cloison build")
	}
	if err := checkHostMemory(c.Memory); err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancel(ctx)
	m := &Machine{cancel: cancel, stderr: &tail{}, once: c.NoReboot, done: make(chan struct{})}
	defer func() {
		if err != nil {
			cancel()
		}
	}()

	// Every channel is a socket pair or a pipe and not a path: nothing to clean
	// up, no limit of 108 bytes, no waiting for a socket to appear, and both
	// sides notice at once when the other one dies.
	var pairs pairs
	defer pairs.closeChildren()
	tpmServer, tpmClient, err := pairs.betweenChildren()
	if err != nil {
		return nil, err
	}
	serialOurs, serialIn, serialOut, err := pairs.line()
	if err != nil {
		return nil, err
	}
	qmpOurs, qmpTheirs, err := pairs.withChild("qmp")
	if err != nil {
		serialOurs.Close()
		return nil, err
	}
	defer func() {
		if err != nil {
			serialOurs.Close()
			qmpOurs.Close()
		}
	}()

	m.tpm = c.SDK.Command(ctx, sdk.Step{
		Args: []string{
			"swtpm", "socket", "--tpm2", "--tpmstate", "dir=" + c.Folder.TPM(),
			"--ctrl", "type=unixio,clientfd=3", "--terminate",
		},
		Dir:      c.Folder.TPM(),
		Writable: []string{c.Folder.TPM()},
		Stdout:   m.stderr, Stderr: m.stderr,
	})
	m.tpm.ExtraFiles = []*os.File{tpmServer}

	step := sdk.Step{
		Args:     qemuArgs(c),
		Dir:      c.Folder.dir,
		Writable: []string{c.Folder.dir},
		Network:  c.Network,
		Stdout:   m.stderr, Stderr: m.stderr,
	}
	if c.Accelerator.Name == "kvm" {
		step.Devices = []string{"/dev/kvm"}
	}
	m.qemu = c.SDK.Command(ctx, step)
	m.qemu.ExtraFiles = []*os.File{serialIn, serialOut, qmpTheirs, tpmClient} // 3, 4, 5, 6

	if err := m.tpm.Start(); err != nil {
		return nil, fmt.Errorf("cannot start swtpm: %w", err)
	}
	if err := m.qemu.Start(); err != nil {
		cancel()
		m.tpm.Wait()
		return nil, fmt.Errorf("cannot start QEMU: %w", err)
	}
	pairs.closeChildren()

	m.Console = newConsole(serialOurs)
	m.qmp = newQMP(qmpOurs)
	go m.supervise()

	// The machine was started stopped (-S): no event is lost, and what is
	// wrong with the arguments shows here and not later.
	err = m.qmp.hello(ctx)
	if err == nil {
		_, err = m.qmp.execute(ctx, "cont", nil)
	}
	if err != nil {
		cancel()
		<-m.done
		return nil, fmt.Errorf("cannot start QEMU: %w%s", err, m.stderr.indented())
	}
	return m, nil
}

// supervise waits for both processes and for the ends of both lines.
func (m *Machine) supervise() {
	go func() {
		select {
		case <-m.qmp.stopped:
			m.cancel()
		case <-m.qmp.done:
		}
	}()
	qemuErr := m.qemu.Wait()
	// swtpm ends when its control channel closes; one that hangs is killed.
	killer := time.AfterFunc(5*time.Second, m.cancel)
	m.tpm.Wait()
	killer.Stop()
	<-m.qmp.done
	<-m.Console.done
	m.exit = m.qmp.exit()
	switch {
	case m.qmp.hasStopped:
		m.err = errors.New("QEMU cannot go on with the guest" + m.stderr.indented())
	case m.exit.Reason == "" && qemuErr != nil:
		m.err = fmt.Errorf("QEMU ended early: %w%s", qemuErr, m.stderr.indented())
	case m.exit.Reason == "":
		m.err = errors.New("QEMU ended without telling why" + m.stderr.indented())
	case m.exit.Reason == "host-error":
		m.err = fmt.Errorf("QEMU gave up (%s)%s", m.exit.Reason, m.stderr.indented())
	}
	close(m.done)
}

// Done is closed when the machine has ended.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait waits until the machine has ended. Its error tells of a machine that
// failed, not of a guest that did.
func (m *Machine) Wait() (Exit, error) {
	<-m.done
	return m.exit, m.err
}

// Resets is a channel that gets a value at each reset of the machine.
func (m *Machine) Resets() <-chan string { return m.qmp.resets }

// Registers tells where the processors stand, in QEMU's words: of a guest that
// says nothing.
func (m *Machine) Registers(ctx context.Context) (string, error) {
	answer, err := m.qmp.execute(ctx, "human-monitor-command", map[string]any{"command-line": "info registers -a"})
	if err != nil {
		return "", err
	}
	var text string
	if err := json.Unmarshal(answer, &text); err != nil {
		return "", fmt.Errorf("cannot read what QEMU says of the registers: %w", err)
	}
	return text, nil
}

// Reset presses the reset button.
func (m *Machine) Reset(ctx context.Context) error {
	_, err := m.qmp.execute(ctx, "system_reset", nil)
	return err
}

// Close cuts the power if the machine still runs, and waits until every
// process of it is gone.
func (m *Machine) Close() error {
	m.close.Do(func() {
		// QEMU flushes the disk and the firmware's variables on quit;
		// a machine that does not answer is killed.
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if _, err := m.qmp.execute(ctx, "quit", nil); err == nil {
			select {
			case <-m.done:
			case <-ctx.Done():
			}
		}
		m.cancel()
		<-m.done
		m.Console.conn.Close()
		m.qmp.conn.Close()
	})
	return nil
}

// Cut ends the machine and its TPM at once and waits until they are gone:
// nobody gets to finish or to write out what he was at. What a power cut loses
// beyond that is what a disk had only in its own cache.
func (m *Machine) Cut() {
	m.cancel()
	<-m.done
	m.close.Do(func() {
		m.Console.conn.Close()
		m.qmp.conn.Close()
	})
}

// CutTPM ends the TPM alone, at once.
func (m *Machine) CutTPM() error {
	// Whoever kills bubblewrap kills what runs in it (--die-with-parent).
	if err := m.tpm.Process.Kill(); err != nil {
		return fmt.Errorf("cannot end the TPM: %w", err)
	}
	return nil
}

// qemuArgs is the whole command line, pure.
func qemuArgs(c Config) []string {
	args := []string{
		"qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-S",
		"-machine", "q35,smm=on,vmport=off",
		// Only code in SMM may write the variables: without this a guest's
		// kernel could enrol its own keys.
		"-global", "driver=cfi.pflash01,property=secure,value=on",
		"-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.Memory) + "M",
		"-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/" + firmwareCode,
		"-drive", "if=pflash,format=raw,unit=1,file=" + comma(c.Folder.Vars()),
		"-drive", "if=none,id=disk,format=raw,discard=unmap,file=" + comma(c.Folder.Disk()),
		"-device", "virtio-blk-pci,drive=disk,bootindex=0",
		"-device", "i6300esb", "-action", "watchdog=reset",
		"-add-fd", "fd=3,set=1", "-add-fd", "fd=4,set=2",
		"-chardev", "file,id=serial,input-path=/dev/fdset/1,path=/dev/fdset/2,append=on", "-serial", "chardev:serial",
		"-chardev", "socket,id=qmp,fd=5", "-mon", "chardev=qmp,mode=control",
	}
	if !c.NoTPM {
		args = append(args, "-chardev", "socket,id=tpm,fd=6", "-tpmdev", "emulator,id=tpm,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm")
	}
	if c.Network {
		user := "user,id=network,ipv6=off"
		for _, f := range c.Forwards {
			user += ",hostfwd=" + f
		}
		args = append(args, "-netdev", user, "-device", "virtio-net-pci,netdev=network,addr=10.0,romfile=")
	}
	args = append(args, Processor(c.Accelerator)...)
	for _, s := range c.SMBIOS {
		args = append(args, "-smbios", "type=11,value="+comma(s))
	}
	if c.NoReboot {
		args = append(args, "-no-reboot")
	}
	return append(args, c.Extra...)
}

// Processor returns QEMU's arguments for the accelerator and the processor that
// it gives the guest. The zero Accelerator is TCG.
func Processor(a Accelerator) []string {
	if a.Name == "kvm" {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	// Everything that TCG can do (SMEP, SMAP, UMIP, RDRAND), but for five-level
	// paging, which only costs, and the fast string operations: where a
	// processor has them, the kernel clears and copies by `rep stosb` and
	// `rep movsb`, which TCG executes byte by byte (half of a boot's time).
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max,la57=off,erms=off,fsrm=off,fsrs=off,fsrc=off,fzrm=off"}
}

// comma doubles the commas of a value, as QEMU's option syntax wants.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// pairs makes what is between us and the children.
type pairs struct{ children []*os.File }

func (p *pairs) socketpair() (a, b int, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	return fds[0], fds[1], nil
}

func (p *pairs) betweenChildren() (a, b *os.File, err error) {
	x, y, err := p.socketpair()
	if err != nil {
		return nil, nil, err
	}
	a, b = os.NewFile(uintptr(x), "tpm"), os.NewFile(uintptr(y), "tpm")
	p.children = append(p.children, a, b)
	return a, b, nil
}

func (p *pairs) withChild(name string) (ours, theirs *os.File, err error) {
	x, y, err := p.socketpair()
	if err != nil {
		return nil, nil, err
	}
	// Non-blocking before os.NewFile, so that Close wakes a reader.
	if err := syscall.SetNonblock(x, true); err != nil {
		syscall.Close(x)
		syscall.Close(y)
		return nil, nil, fmt.Errorf("cannot make a socket pair: %w", err)
	}
	ours, theirs = os.NewFile(uintptr(x), name), os.NewFile(uintptr(y), name)
	p.children = append(p.children, theirs)
	return ours, theirs, nil
}

// line makes a serial line of two pipes, which QEMU takes for files (append=on: it
// would truncate them). QEMU writes single bytes, of which a socket takes some 278
// unread, a pipe 64 KiB. Once a line takes no more, the guest's kernel waits for
// the time of two characters and then drops one: a busy host that let us wait would
// lose parts of what the kernel prints.
func (p *pairs) line() (ours *line, in, out *os.File, err error) {
	in, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot make a serial line: %w", err)
	}
	r, out, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("cannot make a serial line: %w", errors.Join(err, in.Close(), w.Close()))
	}
	p.children = append(p.children, in, out)
	return &line{r, w}, in, out, nil
}

// line is our end of a serial line.
type line struct{ screen, keys *os.File }

func (l *line) Read(p []byte) (int, error) { return l.screen.Read(p) }

func (l *line) Write(p []byte) (int, error) { return l.keys.Write(p) }

func (l *line) Close() error { return errors.Join(l.screen.Close(), l.keys.Close()) }

func (p *pairs) closeChildren() {
	for _, f := range p.children {
		f.Close()
	}
	p.children = nil
}

// tail keeps the last 4 KiB written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - 4096; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	return len(p), nil
}

// indented is the text as a block below an error, or "".
func (t *tail) indented() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.buf))
	if text == "" {
		return ""
	}
	return "\n\t" + strings.ReplaceAll(text, "\n", "\n\t")
}

var _ io.Writer = (*tail)(nil)
