package uki_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"cloison/format/pecoff"
	"cloison/format/pecoff/pecofftest"
	"cloison/format/uki"
)

const (
	fileHeader      = 0x44
	optionalHeader  = fileHeader + 20
	characteristics = optionalHeader + 70
)

func stub(headers int) []byte {
	return pecofftest.Image(
		headers,
		pecofftest.Section{Name: ".text", Data: []byte("stub code")},
		pecofftest.Section{Name: ".sbat", Data: []byte("sbat,1\n")},
		pecofftest.Section{Name: ".sdmagic", Data: []byte("#### LoaderInfo: systemd-stub ####")},
	)
}

func kernel() []byte {
	return pecofftest.Image(0x200, pecofftest.Section{Name: ".text", Data: []byte("kernel")})
}

func sections() []uki.Section {
	return []uki.Section{
		{".osrel", []byte("ID=cloison\n")},
		{".cmdline", []byte("quiet")},
		{".initrd", make([]byte, 0x1001)},
		{".linux", kernel()},
	}
}

func mustBuild(t *testing.T, stub []byte, s []uki.Section) []byte {
	t.Helper()
	b, err := uki.Build(stub, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBuild(t *testing.T) {
	// 0x200 bytes of headers have room for 4 sections, so 7 need them grown.
	for _, headers := range []int{0x200, 0x400, 0x600} {
		in := stub(headers)
		before := bytes.Clone(in)
		b := mustBuild(t, in, sections())
		if !bytes.Equal(in, before) {
			t.Errorf("headers %#x: Build() changed the stub", headers)
		}
		if !bytes.Equal(b, mustBuild(t, in, sections())) {
			t.Errorf("headers %#x: Build() differs from one call to the next", headers)
		}
		got, err := uki.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		want := append([]uki.Section{{".sbat", []byte("sbat,1\n")}}, sections()...)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("headers %#x: Parse(Build()) = %q, want %q", headers, got, want)
		}
		m, err := pecoff.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if wantHeaders := max(headers, 0x400); int(m.SizeOfHeaders) != wantHeaders || m.End() != len(b) || m.SizeOfImage != 0x9000 {
			t.Errorf("headers %#x: SizeOfHeaders = %#x, want %#x; End() = %#x, want %#x; SizeOfImage = %#x, want 0x9000",
				headers, m.SizeOfHeaders, wantHeaders, m.End(), len(b), m.SizeOfImage)
		}
		for i, address := range []uint32{0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000, 0x8000} {
			if m.Sections[i].VirtualAddress != address {
				t.Errorf("headers %#x: %s at %#x, want %#x", headers, m.Sections[i].Name, m.Sections[i].VirtualAddress, address)
			}
		}
		if got := string(m.Sections[0].Data(b)); got != "stub code" {
			t.Errorf("headers %#x: .text = %q", headers, got)
		}
		le := binary.LittleEndian
		if stamp := le.Uint32(b[fileHeader+4:]); stamp != 0 {
			t.Errorf("TimeDateStamp = %#x, want 0", stamp)
		}
		if sum := le.Uint32(b[m.CheckSumOffset():]); sum != pecoff.CheckSum(b, m.CheckSumOffset()) {
			t.Errorf("CheckSum = %#x is wrong", sum)
		}
	}
}

// TestBuildNX: the image promises NX compatibility only where the kernel
// inside does.
func TestBuildNX(t *testing.T) {
	lax := kernel()
	binary.LittleEndian.PutUint16(lax[characteristics:], 0x60)
	for _, test := range []struct {
		name   string
		kernel []byte
		want   uint16
	}{
		{"NX", kernel(), 0x160},
		{"not NX", lax, 0x60},
		{"no PE", []byte("kernel"), 0x60},
		{"cut", kernel()[:characteristics], 0x60},
		{"far PE header", append(append([]byte{60: 0xff, 61: 0xff, 62: 0xff, 63: 0xff}, "PE"...), 0, 0), 0x60},
	} {
		b := mustBuild(t, stub(0x600), []uki.Section{{".linux", test.kernel}})
		if got := binary.LittleEndian.Uint16(b[characteristics:]); got != test.want {
			t.Errorf("%s: DllCharacteristics = %#x, want %#x", test.name, got, test.want)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	le := binary.LittleEndian
	linux := uki.Section{Name: ".linux", Data: kernel()}
	far := stub(0x1000) // headers reach up to the first section
	crowded := pecofftest.Image(0x1000, many(93)...)
	symbols := stub(0x200)
	le.PutUint32(symbols[fileHeader+8:], 0x1234)
	signed := append(stub(0x600), make([]byte, 8)...)
	le.PutUint32(signed[optionalHeader+144:], uint32(len(signed)-8))
	le.PutUint32(signed[optionalHeader+148:], 8)
	dirty := stub(0x600)
	dirty[0x5ff] = 1
	tests := []struct {
		name     string
		stub     []byte
		sections []uki.Section
		want     string
	}{
		{"no stub", nil, []uki.Section{linux}, "not a PE image"},
		{"signed stub", signed, []uki.Section{linux}, "it is signed"},
		{"tail", append(stub(0x600), 'x'), []uki.Section{linux}, "1 bytes follow its last section"},
		{"header space in use", dirty, []uki.Section{linux}, "not empty"},
		{"no kernel", stub(0x600), sections()[:2], "without a .linux section"},
		{"twice", stub(0x600), []uki.Section{linux, linux}, "the image has one already"},
		{"twice in a profile", stub(0x600), []uki.Section{linux, {".profile", []byte("x")}, {".cmdline", []byte("x")}, {".cmdline", []byte("x")}}, "the image has one already"},
		{"kernel in a profile alone", stub(0x600), []uki.Section{{".profile", []byte("x")}, linux}, "without a .linux section"},
		{"stub has it", stub(0x600), []uki.Section{linux, {".sbat", []byte("x")}}, "cannot add section .sbat: the image has one already"},
		{"unknown", stub(0x600), []uki.Section{linux, {".foo", []byte("x")}}, `cannot add section ".foo"`},
		{"stub's own", stub(0x600), []uki.Section{linux, {".rodata", []byte("x")}}, `cannot add section ".rodata"`},
		{"machine's", stub(0x600), []uki.Section{linux, {".dtbauto", []byte("x")}}, `cannot add section ".dtbauto"`},
		{"no name", stub(0x600), []uki.Section{linux, {"", []byte("x")}}, `cannot add section ""`},
		{"empty", stub(0x600), []uki.Section{linux, {".cmdline", nil}}, ".cmdline: it is empty"},
		{"symbols", symbols, sections(), "symbol table"},
		{"too many", crowded, sections(), "97 sections"},
	}
	for _, test := range tests {
		if _, err := uki.Build(test.stub, test.sections); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Build() = %v, want an error with %q", test.name, err, test.want)
		}
	}
	if _, err := uki.Build(far, []uki.Section{linux}); err != nil {
		t.Errorf("Build(headers of 4096 bytes) = %v, want none", err)
	}
	// 4096 - 328 bytes of header space hold 94 section headers.
	full := pecofftest.Image(0x1000, many(92)...)
	if _, err := uki.Build(full, sections()[1:]); err == nil || !strings.Contains(err.Error(), "reach into its first section") {
		t.Errorf("Build(no room) = %v, want a refusal", err)
	}
}

func many(n int) []pecofftest.Section {
	out := make([]pecofftest.Section, n)
	for i := range out {
		out[i].Name = ".x" + string(rune('A'+i/26)) + string(rune('A'+i%26))
	}
	return out
}

func TestParseRefuses(t *testing.T) {
	with := func(names ...string) []byte {
		var s []pecofftest.Section
		for _, n := range names {
			s = append(s, pecofftest.Section{Name: n, Data: []byte("x")})
		}
		return pecofftest.Image(0x600, s...)
	}
	short := with(".text", ".linux")
	binary.LittleEndian.PutUint32(short[optionalHeader+240+pecoff.HeaderSize+8:], 0x201)
	tests := []struct {
		name string
		pe   []byte
		want string
	}{
		{"text", []byte("hello"), "not a PE image"},
		{"stub", stub(0x600), "not a unified kernel image"},
		{"twice", with(".text", ".linux", ".cmdline", ".cmdline"), "section .cmdline is there twice"},
		{"twice in a profile", with(".text", ".linux", ".profile", ".cmdline", ".cmdline"), "section .cmdline is there twice"},
		{"kernel in a profile alone", with(".text", ".profile", ".linux"), "not a unified kernel image"},
		{"kernel in the second profile alone", with(".text", ".profile", ".profile", ".linux"), "not a unified kernel image"},
		{"device tree", with(".text", ".linux", ".dtb"), "depends on the machine"},
		{"unknown", with(".text", ".linux", ".evil"), `unknown section ".evil"`},
		{"longer in memory", short, "513 bytes in memory, 512 in the file"},
	}
	for _, test := range tests {
		if _, err := uki.Parse(test.pe); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: Parse() = %v, want an error with %q", test.name, err, test.want)
		}
	}
}

func TestProfiles(t *testing.T) {
	section := func(name, data string) uki.Section { return uki.Section{Name: name, Data: []byte(data)} }
	base := []uki.Section{section(".osrel", "o"), section(".cmdline", "c"), section(".linux", string(kernel()))}
	sbat := section(".sbat", "sbat,1\n")
	for _, test := range []struct {
		name string
		more []uki.Section
		want [][]uki.Section
	}{
		{"none", nil, [][]uki.Section{{sbat, base[0], base[1], base[2]}}},
		{"one", []uki.Section{section(".profile", "a")}, [][]uki.Section{{sbat, base[0], base[1], base[2], section(".profile", "a")}}},
		{
			"three",
			[]uki.Section{
				section(".profile", "a"), section(".profile", "b"), section(".cmdline", "d"), section(".uname", "u"), section(".profile", "c"),
			},
			[][]uki.Section{
				{sbat, base[0], base[1], base[2], section(".profile", "a")},
				{sbat, base[0], base[2], section(".profile", "b"), section(".cmdline", "d"), section(".uname", "u")},
				{sbat, base[0], base[1], base[2], section(".profile", "c")},
			},
		},
	} {
		all, err := uki.Parse(mustBuild(t, stub(0x600), append(base[:3:3], test.more...)))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := uki.Profiles(all); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: Profiles() = %q, want %q", test.name, got, test.want)
		}
	}
}

// FuzzParse: what Parse reads, Build can put on a stub again, and Parse then
// reads the same.
func FuzzParse(f *testing.F) {
	b, err := uki.Build(stub(0x200), sections())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(stub(0x600))
	two, err := uki.Build(stub(0x200), append(sections(), uki.Section{Name: ".profile", Data: []byte("a")}, uki.Section{Name: ".profile", Data: []byte("b")}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(two)
	f.Add(pecofftest.Image(0x200, pecofftest.Section{Name: ".linux", Data: []byte("x")}))
	bare := pecofftest.Image(0x600, pecofftest.Section{Name: ".text", Data: []byte("stub")})
	f.Fuzz(func(t *testing.T, pe []byte) {
		got, err := uki.Parse(pe)
		if err != nil {
			return
		}
		for _, s := range got {
			if len(s.Data) == 0 {
				return // Build refuses it; a foreign image may have it
			}
		}
		b, err := uki.Build(bare, got)
		if err != nil {
			t.Fatalf("Build(Parse()) = %v", err)
		}
		again, err := uki.Parse(b)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("Parse(Build(Parse())) = %q, %v, want %q", again, err, got)
		}
	})
}

// FuzzBuild: no stub makes Build panic, and what it builds can be read.
func FuzzBuild(f *testing.F) {
	f.Add(stub(0x200))
	f.Add(stub(0x600))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := uki.Build(in, sections())
		if err != nil {
			return
		}
		if _, err := pecoff.Parse(b); err != nil {
			t.Errorf("Parse(Build()) = %v", err)
		}
	})
}
