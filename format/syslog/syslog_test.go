package syslog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"cloison/format/logrecord"
)

const boot = "0123456789abcdef0123456789abcdef"

func TestFrame(t *testing.T) {
	when := time.Date(2026, 11, 23, 22, 4, 5, 6000, time.UTC)
	data := `[cloison@32473 sequence="7" boot="` + boot + `"`
	for _, c := range []struct {
		r    logrecord.Record
		want string
	}{
		{logrecord.Record{Source: "service/timed", Message: "it is late"}, "<30>1 2026-11-23T22:04:05.000006Z gateway timed - - " + data + "] it is late"},
		{logrecord.Record{Source: "service/timed", Message: "größer\n"}, "<30>1 2026-11-23T22:04:05.000006Z gateway timed - - " + data + "] \xef\xbb\xbfgrößer\\x0a"},
		{logrecord.Record{Source: "kernel", Message: "<3> it breaks"}, "<3>1 2026-11-23T22:04:05.000006Z gateway kernel - - " + data + "] it breaks"},
		{logrecord.Record{Source: "audit", Message: "type=1326"}, "<109>1 2026-11-23T22:04:05.000006Z gateway audit - - " + data + "] type=1326"},
		{logrecord.Record{Source: "log"}, "<45>1 2026-11-23T22:04:05.000006Z gateway log - - " + data + "]"},
		{
			logrecord.Record{Source: "service/configd", Who: `a"]b`, Verb: "commit", Result: "ok"},
			"<85>1 2026-11-23T22:04:05.000006Z gateway configd - - " + data + ` who="a\"\]b" verb="commit" result="ok"]`,
		},
		{
			logrecord.Record{Source: "service/configd", Verb: "commit", Result: "refused"},
			"<84>1 2026-11-23T22:04:05.000006Z gateway configd - - " + data + ` verb="commit" result="refused"]`,
		},
	} {
		c.r.Time, c.r.Boot, c.r.Sequence = when, boot, 7
		if got, want := string(Frame(c.r, "gateway")), fmt.Sprintf("%d %s", len(c.want), c.want); got != want {
			t.Errorf("Frame(%+v) = %q, want %q", c.r, got, want)
		}
	}
}

// Nothing in a record can end its frame, its header or its structured data.
func FuzzFrame(f *testing.F) {
	f.Add("a\n<0>1 - - - - -", `x"] y`, "host name")
	f.Fuzz(func(t *testing.T, text, who, host string) {
		r := logrecord.Record{Boot: boot, Source: "service/x", Who: who, Verb: "v", Message: text}
		r.Clean()
		frame := string(Frame(r, host))
		length, m, _ := strings.Cut(frame, " ")
		if length != fmt.Sprint(len(m)) || strings.ContainsAny(m, "\n\r\x00\x1b") || strings.Count(strings.SplitN(m, "["+element, 2)[0], " ") != 6 {
			t.Errorf("Frame(%q, %q, %q) = %q", text, who, host, frame)
		}
	})
}
