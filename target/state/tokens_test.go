package state

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"cloison/format/luks2"
	"cloison/format/sealtoken"
	"cloison/target/seal"
)

const testUUID = "ace2b901-fb15-4954-891c-b292f6d07a49"

var first, second, third = [32]byte{1}, [32]byte{2}, [32]byte{3}

func token(pcr7 [32]byte) json.RawMessage {
	return sealtoken.Token{PCR7: pcr7, Public: []byte{1}, Private: []byte{2}}.Print()
}

func volumeHeader() luks2.Header {
	return luks2.Header{
		Kind: luks2.Sealed,
		UUID: testUUID, Sequence: 4,
		Keyslots: map[int]luks2.Keyslot{0: {Area: 32768, Iterations: 1000}, 1: {Area: 32768 + 385024, Iterations: 1000}},
		Tokens:   map[int]json.RawMessage{sealToken: token(first), recoveryToken: sealtoken.Recovery{Keyslot: 1, Secret: []byte{3}}.Print()},
		Digest:   luks2.Digest{Iterations: 1000},
	}
}

// device is a file with a header.
func device(t *testing.T, h luks2.Header) string {
	text, err := h.Print()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "device")
	if err := os.WriteFile(name, append(text, make([]byte, luks2.HeaderSize-len(text))...), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func onDisk(t *testing.T, device string) luks2.Header {
	head, err := readHead(device, luks2.HeaderSize)
	if err != nil {
		t.Fatal(err)
	}
	h, err := luks2.Parse(head, luks2.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// sealer counts what it seals.
type sealer struct {
	sealed int
	err    error
}

func (s *sealer) Seal(_ seal.Secret, pcr7 [32]byte) (sealtoken.Token, error) {
	s.sealed++
	return sealtoken.Token{PCR7: pcr7, Public: []byte{1}, Private: []byte{2}}, s.err
}

func TestAllowAndForget(t *testing.T) {
	h := volumeHeader()
	v := &Volume{UUID: h.UUID, Tokens: 1, device: device(t, h), header: h}
	by := &sealer{}
	// Twice, as when the power fails after the first time: nothing is sealed again.
	for range 2 {
		if err := v.Allow(by, second, third, first); err != nil {
			t.Fatal(err)
		}
	}
	got := onDisk(t, v.device)
	if by.sealed != 2 || v.Tokens != 3 || len(got.Tokens) != 4 || string(got.Tokens[2]) != string(token(second)) || string(got.Tokens[3]) != string(token(third)) {
		t.Errorf("%d sealed, the header has %v, want tokens 2 and 3 added", by.sealed, got.Tokens)
	}
	if n, err := Forget(v.device, "00000000-0000-0000-0000-000000000000", first); err == nil {
		t.Errorf("Forget of another volume = %d, nil", n)
	}
	for _, test := range []struct {
		keep [][32]byte
		want int
		left int
	}{
		{[][32]byte{{9}}, 0, 4}, // opened by something else: nothing goes
		{[][32]byte{first, second, third}, 0, 4},
		{[][32]byte{first, third}, 1, 3},
		{[][32]byte{third}, 1, 2},
		{[][32]byte{third}, 0, 2},
	} {
		n, err := Forget(v.device, testUUID, test.keep...)
		if left := len(onDisk(t, v.device).Tokens); err != nil || n != test.want || left != test.left {
			t.Errorf("Forget(keep %x) = %d, %v, leaves %d tokens, want %d, %d", test.keep, n, err, left, test.want, test.left)
		}
	}
	if got := onDisk(t, v.device); string(got.Tokens[sealToken]) != string(token(third)) {
		t.Errorf("at last token %d is not the current one: %v", sealToken, got.Tokens)
	}
}

func TestAllowFails(t *testing.T) {
	h := volumeHeader()
	v := &Volume{UUID: h.UUID, Tokens: 1, device: device(t, h), header: h}
	no := errors.New("no")
	if err := v.Allow(&sealer{err: no}, second); !errors.Is(err, no) {
		t.Errorf("Allow without a TPM = %v, want %v", err, no)
	}
	var many [][32]byte
	for i := range maxTokens {
		many = append(many, [32]byte{100, byte(i)})
	}
	if err := v.Allow(&sealer{}, many...); err == nil {
		t.Error("Allow of more than there is room for = nil")
	}
	if got := onDisk(t, v.device); got.Sequence != h.Sequence || len(got.Tokens) != 2 {
		t.Errorf("a failure leaves %d tokens, want the header as it was", len(got.Tokens))
	}
}

// TestHeaderCut: wherever power fails while a header is written, what is there
// is the old one or the new one.
func TestHeaderCut(t *testing.T) {
	old, next := volumeHeader(), volumeHeader()
	next.Sequence++
	next.Tokens[2] = token(second)
	text, err := next.Print()
	if err != nil {
		t.Fatal(err)
	}
	head, err := old.Print()
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{luks2.MetadataSize, 0} { // as writeHeader does
		for n := 0; n <= luks2.MetadataSize; n += 512 {
			copy(head[at:], text[at:at+n])
			got, err := luks2.Parse(head, luks2.Sealed)
			if err != nil || got.Sequence != old.Sequence && got.Sequence != next.Sequence {
				t.Fatalf("cut %d bytes into the copy at %d: %v, %v", n, at, got.Sequence, err)
			}
			if at == 0 && got.Sequence != next.Sequence {
				t.Fatalf("cut %d bytes into the copy at %d: the old header counts again", n, at)
			}
		}
	}
}
