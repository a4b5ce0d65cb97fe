package swap

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestHeader(t *testing.T) {
	for _, c := range []struct {
		size uint64
		want string // bytes 1024 to 1036
	}{
		{64 << 20, "01000000ff3f000000000000"},
		{10*PageSize + 4095, "010000000900000000000000"},
		{0xffffffff * PageSize, "01000000feffffff00000000"},
	} {
		page, err := Header(c.size)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(page[1024:1036]); got != c.want || string(page[4086:]) != "SWAPSPACE2" {
			t.Errorf("Header(%d) = …%s…%q, want %s", c.size, got, page[4086:], c.want)
		}
		if pages, err := Parse(page); err != nil || pages != c.size/PageSize {
			t.Errorf("Parse(Header(%d)) = %d, %v", c.size, pages, err)
		}
	}
	for _, size := range []uint64{0, 10*PageSize - 1, 1 << 44} {
		if _, err := Header(size); err == nil {
			t.Errorf("Header(%d) = no error", size)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	whole, err := Header(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	for at, what := range map[int]string{0: "boot code", 1024: "version", 1032: "bad pages", 1036: "UUID", 1052: "label", 4095: "signature"} {
		page := bytes.Clone(whole)
		page[at] ^= 1
		if pages, err := Parse(page); err == nil {
			t.Errorf("Parse with another %s = %d, want an error", what, pages)
		}
	}
	if _, err := Parse(whole[:4095]); err == nil {
		t.Error("Parse of a short page = no error")
	}
}

func FuzzParse(f *testing.F) {
	page, err := Header(1 << 20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page)
	f.Fuzz(func(t *testing.T, page []byte) {
		pages, err := Parse(page)
		if err != nil {
			return
		}
		if again, err := Header(pages * PageSize); err != nil || !bytes.Equal(again, page) {
			t.Fatalf("Header(Parse(%x)) = %x, %v", page, again, err)
		}
	})
}
