package logrecord

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2026, 11, 23, 22, 4, 5, 6000, time.UTC)

const boot = "0123456789abcdef0123456789abcdef"

func plain(message string) Record {
	return Record{Time: when, Boot: boot, Sequence: 7, Source: "service/console", Message: message}
}

func TestRecord(t *testing.T) {
	head := `{"time":"2026-11-23T22:04:05.000006Z","boot":"` + boot + `","sequence":7,"source":"service/console"`
	action := plain("")
	action.Who, action.Role, action.Verb, action.Result = "alice", "admin", "commit", "ok"
	for _, c := range []struct {
		r          Record
		line, text string
	}{
		{plain("plain, and größer"), `,"message":"plain, and größer"}`, " plain, and größer"},
		{plain("a\nb\r\x00\x1b[31m"), `,"message":"a\u000ab\u000d\u0000\u001b[31m"}`, ` a\x0ab\x0d\x00\x1b[31m`},
		{plain(`back\slash "quoted"`), `,"message":"back\\slash \"quoted\""}`, ` back\\slash "quoted"`},
		{plain("\u202e\U000e0001"), `,"message":"\u202e\udb40\udc01"}`, ` \xe2\x80\xae\xf3\xa0\x80\x81`},
		{plain(""), `,"message":""}`, ""},
		{action, `,"who":"alice","role":"admin","verb":"commit","result":"ok","message":""}`, ` who="alice" role="admin" verb="commit" result="ok"`},
	} {
		got, err := c.r.Append(nil)
		if err != nil || string(got) != head+c.line {
			t.Errorf("Append(%+v) = %s, %v, want %s", c.r, got, err, head+c.line)
		}
		if again, err := Parse(string(got)); err != nil || again != c.r {
			t.Errorf("Parse(%s) = %+v, %v, want %+v", got, again, err, c.r)
		}
		var std Record
		if err := json.Unmarshal(got, &std); err != nil || std != c.r {
			t.Errorf("encoding/json reads %s as %+v, %v, want %+v", got, std, err, c.r)
		}
		if got, want := c.r.String(), "2026-11-23T22:04:05.000006Z service/console"+c.text; got != want {
			t.Errorf("String(%+v) = %s, want %s", c.r, got, want)
		}
	}
	for _, wrong := range []string{
		"", "{}", head, head + `,"message":""`, head + `,"message":""} `, head + ` ,"message":""}`,
		head + `,"message":"\n"}`, head + `,"message":"\u0041"}`, head + `,"message":"\u00e9"}`, head + `,"message":"\ud800"}`, head + `,"message":"a` + "\n" + `"}`,
		head + `,"role":"admin","message":""}`, head + `,"verb":"","message":""}`, head + `,"verb":"a","verb":"b","message":""}`, head + `,"role":"a","who":"b","verb":"c","message":""}`,
		head + `,"message":"` + strings.Repeat("a", MaxMessage+1) + `"}`, head + `,"message":"` + "\xff" + `"}`,
		strings.Replace(head, "service/console", "init", 1) + `,"message":""}`, strings.Replace(head, "service/console", "service/", 1) + `,"message":""}`,
		strings.Replace(head, "7", "07", 1) + `,"message":""}`, strings.Replace(head, ":7", ":-7", 1) + `,"message":""}`, strings.Replace(head, "6Z", "Z", 1) + `,"message":""}`,
		strings.Replace(head, "abcdef", "ABCDEF", 1) + `,"message":""}`, strings.Replace(head, "11-23", "13-23", 1) + `,"message":""}`,
	} {
		if got, err := Parse(wrong); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", wrong, got)
		}
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"plain", "plain"},
		{"\xffa\xc3", `\xffa\xc3`},
		{"a\n\u202e", "a\n\u202e"},
		{strings.Repeat("a", MaxMessage-1) + "é", strings.Repeat("a", MaxMessage-1)},
		{strings.Repeat("\xff", MaxMessage), strings.Repeat(`\xff`, MaxMessage/4)},
	} {
		r := plain(c.text)
		if r.Clean(); r.Message != c.want {
			t.Errorf("Clean(%q) = %q, want %q", c.text, r.Message, c.want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("a\x00b\\xff\u202e", "commit")
	f.Fuzz(func(t *testing.T, message, verb string) {
		r := plain(message)
		r.Verb = verb
		r.Clean()
		line, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := Parse(string(line)); err != nil || again != r {
			t.Errorf("Parse(%s) = %+v, %v, want %+v", line, again, err, r)
		}
		var std Record
		if err := json.Unmarshal(line, &std); err != nil || std != r {
			t.Errorf("encoding/json reads %s as %+v, %v, want %+v", line, std, err, r)
		}
		if strings.ContainsAny(string(line)+r.String(), "\n\r\x1b") {
			t.Errorf("%q or %q is not one line", line, r.String())
		}
	})
}

func FuzzParse(f *testing.F) {
	line, _ := plain(`a\ "`).Append(nil)
	f.Add(string(line))
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := Parse(s); err == nil {
			if again, err := r.Append(nil); err != nil || string(again) != s {
				t.Errorf("Append(Parse(%q)) = %q, %v", s, again, err)
			}
		}
	})
}
