package machine

import (
	"bytes"
	"encoding/binary"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"
)

// store makes a firmware volume with variables in given states.
func store(entries ...[]byte) []byte {
	const header, size = 72, 4096
	image := make([]byte, header+size)
	for i := range image {
		image[i] = 0xff
	}
	copy(image[40:], "_FVH")
	binary.LittleEndian.PutUint16(image[48:], header)
	copy(image[header:], authenticatedStore[:])
	binary.LittleEndian.PutUint32(image[header+16:], size)
	at := header + storeHeaderSize
	for _, e := range entries {
		copy(image[at:], e)
		at += (len(e) + 3) &^ 3
	}
	return image
}

func entry(state byte, name string, vendor guid, data string) []byte {
	text := utf16.Encode([]rune(name + "\x00"))
	h := make([]byte, variableHeaderSize)
	binary.LittleEndian.PutUint16(h, variableStart)
	h[2] = state
	binary.LittleEndian.PutUint32(h[4:], 7)
	binary.LittleEndian.PutUint32(h[36:], uint32(2*len(text)))
	binary.LittleEndian.PutUint32(h[40:], uint32(len(data)))
	copy(h[44:], vendor[:])
	for _, c := range text {
		h = binary.LittleEndian.AppendUint16(h, c)
	}
	return append(h, data...)
}

func TestParseVariables(t *testing.T) {
	pk := entry(variableAdded, "PK", efiGlobalVariable, "key")
	want := []variable{{"PK", efiGlobalVariable, 7, []byte("key")}}
	for _, c := range []struct {
		name  string
		image []byte
		want  []variable
		err   string
	}{
		{"empty store", store(), nil, ""},
		{"one", store(pk), want, ""},
		{"one after a deleted one", store(entry(0x3c, "PK", efiGlobalVariable, "old"), pk), want, ""},
		{"being replaced", store(entry(variableMoving, "PK", efiGlobalVariable, "key")), want, ""},
		{"never finished", store(entry(0x7f, "PK", efiGlobalVariable, "key")), nil, ""},
		{"nothing", nil, nil, "no firmware volume"},
		{"no store", make([]byte, 4096), nil, "no firmware volume"},
		{"store cut off", store(pk)[:200], nil, "store of 4096 bytes"},
		{"name longer than the store", store(binary.LittleEndian.AppendUint32(slices.Clone(pk[:36]), 1<<20)), nil, "cut off"},
	} {
		got, err := parseVariables(c.image)
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(variable{})); diff != "" {
			t.Errorf("%s: parseVariables() differs (-want +got):\n%s", c.name, diff)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: parseVariables() = error %v, want %q", c.name, err, c.err)
		}
	}
}

func FuzzParseVariables(f *testing.F) {
	f.Add(store(entry(variableAdded, "PK", efiGlobalVariable, "key")))
	f.Fuzz(func(t *testing.T, image []byte) {
		variables, err := parseVariables(image)
		if err != nil && variables != nil {
			t.Error("parseVariables returns variables of a store that it refuses")
		}
	})
}

func TestCheckMemory(t *testing.T) {
	for _, c := range []struct {
		meminfo string
		need    int
		want    string
	}{
		{"MemTotal: 9 kB\nMemAvailable:    1048576 kB\n", 512, ""},
		{"MemAvailable:    720896 kB\n", 512, ""}, // exactly 512 + 192 MiB
		{"MemAvailable:    720895 kB\n", 512, "512 MiB of memory and 192 more for QEMU, but 703 MiB are free"},
		{"MemAvailable:    1048576 kB\n", 64, "too little"},
		{"MemTotal: 1048576 kB\n", 512, "no MemAvailable"},
		{"MemAvailable: much kB\n", 512, "invalid syntax"},
	} {
		err := checkMemory(strings.NewReader(c.meminfo), c.need)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("checkMemory(%q, %d) = %v, want %q", c.meminfo, c.need, err, c.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: x\r\n": "BdsDxe: x\n",
		"\x1b[1m\x1b[31mred\x1b[0m":               "red",
		"cut \x1b[0":                              "cut ",
		"cut \x1b":                                "cut ",
		"plain":                                   "plain",
	} {
		if got := Plain(in); got != want {
			t.Errorf("Plain(%q) = %q, want %q", in, got, want)
		}
	}
}

// Cut at any place, the noise is dropped and nothing else is.
func TestQuiet(t *testing.T) {
	const in = "a\x1b[2J\x1b[01;01H\x1b[=3hb\x1b[0mc\x1b[2\x1b[2Jd\n"
	const want = "ab\x1b[0mc\x1b[2d\n"
	for cut := range len(in) {
		var out bytes.Buffer
		q := &quiet{w: &out}
		q.Write([]byte(in[:cut]))
		q.Write([]byte(in[cut:]))
		if out.String() != want {
			t.Errorf("quiet(%q + %q) wrote %q, want %q", in[:cut], in[cut:], out.String(), want)
		}
	}
}

func TestCopyKeys(t *testing.T) {
	for _, c := range []struct {
		in, typed string
		leave     bool
	}{
		{"status\n", "status\n", false},
		{"", "", false},
		{"a\x1db", "a", true},
		{"\x1d", "", true},
	} {
		var typed bytes.Buffer
		leave := copyKeys(&typed, strings.NewReader(c.in))
		if leave != c.leave || typed.String() != c.typed {
			t.Errorf("copyKeys(%q) = %v and typed %q, want %v and %q", c.in, leave, typed.String(), c.leave, c.typed)
		}
	}
}

func TestWatch(t *testing.T) {
	one, two := regexp.MustCompile("one"), regexp.MustCompile("^two")
	w := newWatch(one, two)
	for _, part := range []string{"\x1b[2Jo", "ne\r\nno two\r\n\x1b[0mtwo", " one\n"} {
		w.Write([]byte(part))
	}
	close(w.found)
	var got []*regexp.Regexp
	for re := range w.found {
		got = append(got, re)
	}
	if want := []*regexp.Regexp{one, one, two}; !reflect.DeepEqual(got, want) {
		t.Errorf("watch found %v, want %v", got, want)
	}
}

// What makes Secure Boot worth its name, and the options' commas.
func TestArguments(t *testing.T) {
	c := Config{Folder: &Folder{dir: "/a,b"}, Memory: 256, CPUs: 3, SMBIOS: []string{"x=1,2"}, NoReboot: true, Extra: []string{"-last"}}
	args := strings.Join(qemuArgs(c), " ")
	for _, want := range []string{
		"-nodefaults -no-user-config -display none",
		"-machine q35,smm=on",
		"driver=cfi.pflash01,property=secure,value=on",
		"readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
		"file=/a,,b/OVMF_VARS.fd",
		"-accel tcg,thread=multi", "-smp 3", "-m 256M",
		"-device i6300esb -action watchdog=reset",
		"-smbios type=11,value=x=1,,2", "-no-reboot -last",
	} {
		if !strings.Contains(args, want) {
			t.Errorf("qemuArgs() = %s\nwant %q in it", args, want)
		}
	}
	c.Accelerator.Name = "kvm"
	if args := strings.Join(qemuArgs(c), " "); !strings.Contains(args, "-accel kvm -cpu host") {
		t.Errorf("qemuArgs() with KVM = %s", args)
	}
}

// What a machine writes while nobody reads is there afterwards: QEMU writes single
// bytes, and the guest drops what its line does not take.
func TestLineHolds(t *testing.T) {
	var pairs pairs
	ours, _, out, err := pairs.line()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	want := strings.Repeat("a whole boot of messages\n", 2400)
	for i := range len(want) {
		if err := out.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := out.WriteString(want[i : i+1]); err != nil {
			t.Fatalf("byte %d of %d: %v", i, len(want), err)
		}
	}
	pairs.closeChildren()
	got, err := io.ReadAll(ours)
	if string(got) != want || err != nil {
		t.Errorf("%d bytes come, %v, want %d", len(got), err, len(want))
	}
}
