package bootfacts

import (
	"strings"
	"testing"
	"time"
)

const note = `command=console=ttyS0 cloison.version=0.1.0 cloison.roothash=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff cloison.salt=ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100 cloison.data_blocks=10 cloison.hash_offset=40960 cloison.fec_offset=49152 cloison.fec_roots=2
slot=core-a
device=/dev/vda2
esp=/dev/vda1
verity=/dev/dm-0
mapping=core
gpt_backup=false
measured=true
state=/dev/vda4
state_uuid=ace2b901-fb15-4954-891c-b292f6d07a49
state_made=true
state_unlock=tpm
state_token=0 of 1
state_recovery=true
changes=db:append:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff,dbx:replace:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100
changes_refused=false
swap=none
initramfs_usec=500000
opened_usec=700123
unsealed_usec=900456
`

func TestParse(t *testing.T) {
	f, err := Parse(note)
	if err != nil || f.String() != note || f.Slot != "core-a" || f.Core.DataBlocks != 10 || f.Opened != 700123*time.Microsecond {
		t.Errorf("Parse(note) = %+v, %v, want the same note back", f, err)
	}
	for _, test := range []struct{ old, new, want string }{
		{"slot=core-a\n", "", "where slot=… must stand"},
		{"slot=core-a", "slot=", "slot is empty"},
		{"unlock=tpm", "unlock=TPM", "nothing is called"},
		{"gpt_backup=false", "gpt_backup=no", "neither true nor false"},
		{"usec=500000", "usec=0500000", "not a number"},
		{"db:append", "db:add", "usual way"},
		{"db:append", "pk:append", "no change"},
		{":ffee", ":FFEE", "usual way"},
		{":ffee", ":ff", "no change"},
		{"usec=500000", "usec=-5", "not a number"},
		{"roots=2", "roots=3 x=y", "unexpected word"},
		{"swap=none", "swap=/dev/vda5", "not what the command line wants"},
		{"roots=2", "roots=2 cloison.swap=1", "not what the command line wants"},
		{"usec=900456\n", "usec=900456", "must stand"},
		{"usec=900456\n", "usec=900456\nmore=1\n", "more lines"},
	} {
		_, err := Parse(strings.Replace(note, test.old, test.new, 1))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Parse(%q for %q) = %v, want an error with %q", test.new, test.old, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(note)
	f.Fuzz(func(t *testing.T, text string) {
		if facts, err := Parse(text); err == nil && facts.String() != text {
			t.Fatalf("Parse(%q).String() = %q", text, facts)
		}
	})
}
