package peer_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"cloison/format/eventlog"
	"cloison/host/sdk"
	"cloison/host/sdk/sdktest"
)

// TestEventLog holds what we read in a log of OVMF against tpm2_eventlog: each
// event's PCR, type and digest, the Secure Boot variables, and where all leads.
func TestEventLog(t *testing.T) {
	text, err := os.ReadFile("../../format/eventlog/testdata/ovmf.log")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "log"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := sdktest.Open(t).Output(t.Context(), sdk.Step{Args: []string{"tpm2_eventlog", "log"}, Dir: dir, Writable: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	theirs := string(out)
	log, err := eventlog.Parse(text)
	if err != nil {
		t.Fatal(err)
	}

	events := strings.Split(theirs, "- EventNum: ")[2:] // what comes before, and the first event, which lists the algorithms
	if len(events) != len(log.Events) {
		t.Fatalf("%d events, tpm2_eventlog sees %d", len(log.Events), len(events))
	}
	kinds := map[uint32]string{
		eventlog.VariableDriverConfig: "EV_EFI_VARIABLE_DRIVER_CONFIG", eventlog.VariableAuthority: "EV_EFI_VARIABLE_AUTHORITY",
		eventlog.BootServicesApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",
	}
	seen := map[string]int{}
	for i, e := range log.Events {
		their := events[i]
		if pcr := field(t, their, "PCRIndex"); pcr != fmt.Sprint(e.PCR) {
			t.Errorf("event %d: PCR %d, tpm2_eventlog sees %s", i+1, e.PCR, pcr)
		}
		kind := field(t, their, "EventType")
		for code, name := range kinds {
			if (e.Type == code) != (kind == name) {
				t.Errorf("event %d: type %#x, tpm2_eventlog sees %s", i+1, e.Type, kind)
			}
		}
		for _, d := range e.Digests {
			if !strings.Contains(their, `Digest: "`+hex.EncodeToString(d)+`"`) {
				t.Errorf("event %d: tpm2_eventlog does not see digest %x:\n%s", i+1, d, their)
			}
		}
		if e.Type != eventlog.VariableDriverConfig && e.Type != eventlog.VariableAuthority {
			continue
		}
		v, err := eventlog.ParseVariable(e.Data)
		if err != nil {
			t.Errorf("event %d: %v", i+1, err)
			continue
		}
		seen[v.Name]++
		if name, guid := field(t, their, "UnicodeName"), field(t, their, "VariableName"); name != v.Name || guid != v.Vendor.String() {
			t.Errorf("event %d: variable %s-%s, tpm2_eventlog sees %s-%s", i+1, v.Name, v.Vendor, name, guid)
		}
		if size := field(t, their, "VariableDataLength"); size != strconv.Itoa(len(v.Content)) {
			t.Errorf("event %d: %s of %d bytes, tpm2_eventlog sees %s", i+1, v.Name, len(v.Content), size)
		}
	}
	for _, name := range []string{"SecureBoot", "PK", "KEK", "db", "dbx"} {
		if seen[name] == 0 {
			t.Errorf("the log has no %s", name)
		}
	}

	sha256 := theirs[strings.LastIndex(theirs, "  sha256:"):]
	values := regexp.MustCompile(`(?m)^ +([0-9]+) +: 0x([0-9a-f]{64})$`).FindAllStringSubmatch(sha256, -1)
	if len(values) < 8 {
		t.Fatalf("tpm2_eventlog tells %d PCRs:\n%s", len(values), sha256)
	}
	for _, m := range values {
		index, err := strconv.ParseUint(m[1], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		if value, err := log.Replay(uint32(index)); err != nil || hex.EncodeToString(value[:]) != m[2] {
			t.Errorf("Replay(%d) = %x, %v, tpm2_eventlog says %s", index, value, err, m[2])
		}
	}
}

// field returns the value of a key in one event as tpm2_eventlog prints it.
func field(t *testing.T, event, name string) string {
	m := regexp.MustCompile(`(?m)^ +` + name + `: *"?([^"\n]*)"?$`).FindStringSubmatch(event)
	if m == nil {
		t.Fatalf("tpm2_eventlog prints no %s:\n%s", name, event)
	}
	return m[1]
}
