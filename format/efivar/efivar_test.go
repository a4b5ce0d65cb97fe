package efivar

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
	"time"
	"unicode/utf16"
)

func wide(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func TestFlag(t *testing.T) {
	for _, test := range []struct {
		file     []byte
		want, ok bool
	}{
		{[]byte{6, 0, 0, 0, 1}, true, true},
		{[]byte{6, 0, 0, 0, 0}, false, true},
		{[]byte{7, 0, 0, 0, 1}, false, false}, // stored by a program
		{[]byte{6, 0, 0, 0, 2}, false, false},
		{[]byte{6, 0, 0, 0}, false, false},
		{[]byte{6, 0, 0, 0, 1, 0}, false, false},
		{[]byte{6, 0, 0}, false, false},
	} {
		v, err := Parse(test.file)
		var got bool
		if err == nil {
			got, err = v.Flag()
		}
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("Flag(%x) = %t, %v, want %t, ok %t", test.file, got, err, test.want, test.ok)
		}
	}
}

func TestSince(t *testing.T) {
	for _, test := range []struct {
		in   string
		want time.Duration
		ok   bool
	}{
		{"1234567\x00", 1234567 * time.Microsecond, true},
		{"0\x00", 0, true},
		{"1234567", 0, false},
		{"01\x00", 0, false},
		{"-1\x00", 0, false},
		{"1\x002\x00", 0, false},
		{"\x00", 0, false},
		{"", 0, false},
		{"9999999999999999999\x00", 0, false},
	} {
		got, err := Variable{Data: wide(test.in)}.Since()
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("Since(%q) = %v, %v, want %v, ok %t", test.in, got, err, test.want, test.ok)
		}
	}
}

func TestTexts(t *testing.T) {
	for _, test := range []struct {
		in   []byte
		want []string
		ok   bool
	}{
		{wide("a.efi\x00b\x00"), []string{"a.efi", "b"}, true},
		{nil, nil, true},
		{wide("a"), nil, false},
		{wide("a\x00b"), nil, false},
		{[]byte("a"), nil, false},
	} {
		got, err := Variable{Data: test.in}.Texts()
		if !reflect.DeepEqual(got, test.want) || (err == nil) != test.ok {
			t.Errorf("Texts(%q) = %q, %v, want %q, ok %t", test.in, got, err, test.want, test.ok)
		}
	}
}

func TestCountPath(t *testing.T) {
	for _, test := range []struct {
		in, good string
		left     uint
		ok       bool
	}{
		{`\EFI\Linux\cloison_0.1.0+3.efi`, "cloison_0.1.0.efi", 3, true},
		{`\EFI\Linux\cloison_0.1.0+2-1.efi`, "cloison_0.1.0.efi", 2, true},
		{`\EFI\Linux\cloison_0.1.0+0-3.efi`, "cloison_0.1.0.efi", 0, true},
		{`\EFI\Linux\cloison_0.1.0.efi`, "", 0, false},
		{`\EFI\Linux\other_0.1.0+3.efi`, "", 0, false},
		{`\EFI\Linux\..\cloison_0.1.0+3.efi`, "", 0, false},
		{`\EFI\BOOT\cloison_0.1.0+3.efi`, "", 0, false},
		{`EFI\Linux\cloison_0.1.0+3.efi`, "", 0, false},
		{`\EFI\Linux\cloison_0.1.0+03.efi`, "", 0, false},
		{`\EFI\Linux\cloison_0.1.0+3-0.efi`, "", 0, false},
		{`\EFI\Linux\cloison_a\b+3.efi`, "", 0, false},
		{``, "", 0, false},
	} {
		c, err := CountPath(test.in)
		if (err == nil) != test.ok || err == nil && (c.GoodName() != test.good || c.Left != test.left || c.Path() != test.in) {
			t.Errorf("CountPath(%q) = %+v, %v, want %q, %d left, ok %t", test.in, c, err, test.good, test.left, test.ok)
		}
	}
}

func TestOtherEntry(t *testing.T) {
	for _, test := range []struct {
		entries  []string
		selected string
		want     bool
	}{
		{[]string{"cloison_0.1.0+0-3.efi"}, "cloison_0.1.0+0-3.efi", false},
		{[]string{"cloison_0.1.0+1-2.efi", "auto-efi-shell"}, "cloison_0.1.0+0-3.efi", false},
		{[]string{"cloison_0.2.0+0-3.efi", "cloison_0.1.0.efi"}, "cloison_0.2.0+0-3.efi", true},
		{[]string{"cloison_0.2.0+0-3.efi", "cloison_0.1.0+0-3.efi"}, "cloison_0.2.0+0-3.efi", false},
		{[]string{"cloison_0.2.0+0-3.efi", "cloison_0.1.0+1.efi"}, "cloison_0.2.0+0-3.efi", true},
		{[]string{"cloison_0.1.0.efi"}, "", false},
		{[]string{"cloison_0.1.0.efi", "cloison_0.1.0.efi@recovery"}, "cloison_0.1.0.efi", false},
		{[]string{"cloison_0.1.0.efi", "cloison_0.1.0.efi@recovery"}, "cloison_0.1.0.efi@recovery", false},
		{[]string{"cloison_0.2.0.efi@recovery", "cloison_0.1.0.efi"}, "cloison_0.2.0.efi@recovery", true},
	} {
		if got := OtherEntry(test.entries, test.selected); got != test.want {
			t.Errorf("OtherEntry(%q, %q) = %t, want %t", test.entries, test.selected, got, test.want)
		}
	}
}

func FuzzCountPath(f *testing.F) {
	f.Add(`\EFI\Linux\cloison_0.1.0+2-1.efi`)
	f.Fuzz(func(t *testing.T, path string) {
		if c, err := CountPath(path); err == nil && c.Path() != path {
			t.Fatalf("CountPath(%q).Path() = %q", path, c.Path())
		}
	})
}

func FuzzText(f *testing.F) {
	f.Add(wide("LoaderTime\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		v := Variable{Data: data}
		if s, err := v.Text(); err == nil && !bytes.Equal(append(wide(s), 0, 0), data) {
			t.Fatalf("Text(%x) = %q", data, s)
		}
		if list, err := v.Texts(); err == nil {
			var b []byte
			for _, s := range list {
				b = append(append(b, wide(s)...), 0, 0)
			}
			if !bytes.Equal(b, data) {
				t.Fatalf("Texts(%x) = %q", data, list)
			}
		}
	})
}
