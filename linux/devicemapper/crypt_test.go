package devicemapper

import "testing"

// As the kernel (7.3) printed them for a volume of cryptsetup 2.7.5.
const (
	cryptTable     = "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:cryptsetup:ace2b901-fb15-4954-891c-b292f6d07a49-d0 0 253:0 0 2 integrity:32:aead sector_size:4096"
	integrityTable = "254:0 4096 32 J 7 block_size:4096 interleave_sectors:32768 buffer_sectors:128 journal_sectors:8184 journal_watermark:50 commit_time:10000 fix_padding"
)

func TestParseCrypt(t *testing.T) {
	want := Crypt{"capi:authenc(hmac(sha256),xts(aes))-plain64", true, "integrity:32:aead", "4096"}
	if got, err := ParseCrypt(Target{Type: "crypt", Params: cryptTable}); got != want || err != nil {
		t.Errorf("ParseCrypt = %+v, %v, want %+v", got, err, want)
	}
	want = Crypt{Cipher: "aes-xts-plain64", SectorSize: "512"}
	if got, err := ParseCrypt(Target{Type: "crypt", Params: "aes-xts-plain64 00ff 0 253:0 0"}); got != want || err != nil {
		t.Errorf("ParseCrypt = %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []Target{{Type: "linear", Params: cryptTable}, {Type: "crypt", Params: "aes"}} {
		if got, err := ParseCrypt(bad); err == nil {
			t.Errorf("ParseCrypt(%v) = %+v, want an error", bad, got)
		}
	}
}

func TestIntegrityMode(t *testing.T) {
	if got, err := IntegrityMode(Target{Type: "integrity", Params: integrityTable}); got != "J" || err != nil {
		t.Errorf("IntegrityMode = %q, %v, want J", got, err)
	}
	for _, bad := range []Target{{Type: "crypt", Params: integrityTable}, {Type: "integrity", Params: "254:0 4096 32 X 0"}, {Type: "integrity"}} {
		if got, err := IntegrityMode(bad); err == nil {
			t.Errorf("IntegrityMode(%v) = %q, want an error", bad, got)
		}
	}
}

func TestEncrypted(t *testing.T) {
	got := encrypted("cloison:swap", "/dev/vda5", 64<<20)
	want := Target{"crypt", 64 << 20, "aes-xts-plain64 :64:logon:cloison:swap 0 /dev/vda5 0 1 sector_size:4096"}
	if got != want {
		t.Errorf("encrypted = %+v, want %+v", got, want)
	}
	if c, err := ParseCrypt(got); err != nil || c != (Crypt{"aes-xts-plain64", true, "", "4096"}) {
		t.Errorf("ParseCrypt(encrypted) = %+v, %v", c, err)
	}
}
