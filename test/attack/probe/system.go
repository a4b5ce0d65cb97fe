package probe

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// Numbers of system calls that package syscall has not, for x86-64.
const (
	sysClockAdjtime    = 305
	sysSetns           = 308
	sysProcessVMReadv  = 310
	sysProcessVMWritev = 311
	sysKcmp            = 312
	sysFinitModule     = 313
	sysSchedSetattr    = 314
	sysSeccomp         = 317
	sysGetrandom       = 318
	sysMemfdCreate     = 319
	sysKexecFileLoad   = 320
	sysBPF             = 321
	sysExecveat        = 322
	sysUserfaultfd     = 323
	sysPkeyMprotect    = 329
	sysPidfdSendSignal = 424
	sysIoUringSetup    = 425
	sysOpenTree        = 428
	sysMoveMount       = 429
	sysFsopen          = 430
	sysFsconfig        = 431
	sysFsmount         = 432
	sysFspick          = 433
	sysPidfdOpen       = 434
	sysClone3          = 435
	sysPidfdGetfd      = 438
	sysMountSetattr    = 442
	sysQuotactlFd      = 443
	sysMemfdSecret     = 447
	sysCachestat       = 451
	sysMapShadowStack  = 453
	sysStatmount       = 457
	sysListmount       = 458
	sysLsmSetSelfAttr  = 460
	sysSetxattrat      = 463
	sysOpenTreeAttr    = 467
)

const (
	atFDCWD   = ^uintptr(99) // -100
	minusOne  = ^uintptr(0)
	emptyPath = 0x1000
)

// system makes a system call. Arguments are numbers, texts, byte slices or
// pointers to what the kernel reads.
func system(number uintptr, arguments ...any) (uintptr, error) {
	var a [6]uintptr
	keep := make([]any, 0, len(arguments))
	for i, argument := range arguments {
		switch v := argument.(type) {
		case int:
			a[i] = uintptr(v)
		case uintptr:
			a[i] = v
		case uint64:
			a[i] = uintptr(v)
		case string:
			b := append([]byte(v), 0)
			a[i], keep = uintptr(unsafe.Pointer(&b[0])), append(keep, b)
		case []byte:
			a[i], keep = uintptr(unsafe.Pointer(&v[0])), append(keep, v)
		case []uint64:
			a[i], keep = uintptr(unsafe.Pointer(&v[0])), append(keep, v)
		case unsafe.Pointer:
			a[i] = uintptr(v)
		case nil:
		default:
			return 0, fmt.Errorf("internal error: an argument of type %T", argument)
		}
	}
	r, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	held = keep
	if errno != 0 {
		return 0, errno
	}
	return r, nil
}

// held keeps what the kernel was shown alive, also where the call goes on in
// the kernel afterwards.
var held []any

// program is a whole ELF program: it writes Through and its end to descriptor 1.
// (System V ABI, AMD64 supplement; ELF-64 object file format.)
func program() []byte {
	text := Through + "a file that was written is executed\n"
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, SYS_write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x35, 16, 0, 0, 0, // lea rsi, [rip+16]
		0xba, byte(len(text)), 0, 0, 0, // mov edx, length
		0x0f, 0x05, // syscall
		0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	}
	const base, head = 0x400000, 64 + 56
	size := uint64(head + len(code) + len(text))
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	put := func(width int, values ...uint64) {
		for _, v := range values {
			for i := range width {
				b.WriteByte(byte(v >> (8 * i)))
			}
		}
	}
	put(2, 2, 62)               // executable, x86-64
	put(4, 1)                   // version
	put(8, base+head, 64, 0)    // entry, program headers, no sections
	put(4, 0)                   // flags
	put(2, 64, 56, 1, 64, 0, 0) // sizes and counts
	put(4, 1, 5)                // load, read and execute
	put(8, 0, base, base, size, size, 4096)
	b.Write(code)
	b.WriteString(text)
	return b.Bytes()
}

// returns is machine code that returns 42.
var returns = []byte{0xb8, 42, 0, 0, 0, 0xc3}

// run calls the code at an address, and reports what it returned.
func run(at uintptr) (string, error) {
	code := &at
	f := *(*func() int)(unsafe.Pointer(&code))
	return fmt.Sprintf("code that was written runs and returns %d", f()&0xff), nil
}

// fill copies code to an address.
func fill(at uintptr, code []byte) {
	copy(unsafe.Slice((*byte)(pointer(at)), len(code)), code)
}

// pointer is an address that the kernel has given.
func pointer(at uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&at)) }

// create writes a file that can be executed.
func create(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o777)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// execute becomes another program. It returns only when it cannot.
func execute(path string, arguments ...string) (string, error) {
	err := syscall.Exec(path, append([]string{path}, arguments...), nil)
	return "", err
}

// must is an error where the kernel answered well but nothing was gained.
func must(gained bool, what string) (string, error) {
	if !gained {
		return "", errors.New("it has no effect")
	}
	return what, nil
}
