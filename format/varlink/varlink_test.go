package varlink

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

const example = `# Talks about records.
#
# And nothing else.
interface com.example-1.log

# One record.
type Record (time: int, text: string, from: ?Source, rest: [string]object)

type Source (kernel, service)

# The last ones.
method Tail(lines: int) -> (records: []Record, box: (x: float, y: bool))

method Nothing() -> ()

error Gone (when: int)
`

func parse(t testing.TB, text string) *Interface {
	t.Helper()
	i, err := ParseInterface(text)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestParseInterface(t *testing.T) {
	i := parse(t, example)
	if got := i.String(); got != example {
		t.Errorf("String() = %s, want %s", got, example)
	}
	if got, want := i.Methods(), []string{"Tail", "Nothing"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Methods() = %q, want %q", got, want)
	}
	squeezed := "interface a.b method A(a:int,b:[]?string)->()type T(a,b)\n"
	want := "interface a.b\n\nmethod A(a: int, b: []?string) -> ()\n\ntype T (a, b)\n"
	if got := parse(t, squeezed).String(); got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
	for _, wrong := range []string{
		"", "interface", "interface a", "interface a.", "interface .a", "interface a.-b", "interface 1a.b",
		"interface a.b method", "interface a.b method a() -> ()", "interface a.b method A()", "interface a.b method A() -> (a)",
		"interface a.b method A(a) -> ()", "interface a.b method A(a: int, b) -> ()", "interface a.b method A(a: int a: int) -> ()",
		"interface a.b method A(a: int, a: int) -> ()", "interface a.b method A(a_: int) -> ()", "interface a.b method A(a__b: int) -> ()",
		"interface a.b method A(a: integer) -> ()", "interface a.b method A(a: T) -> ()", "interface a.b type A (a: ??int)",
		"interface a.b type A (a) type A (b)", "interface a.b function A() -> ()", "interface a.b error A (a)", "interface a.b error A (a: (b, b))",
		"interface a.b type A (a: " + strings.Repeat("[]", 100) + "int)", "interface a.b type A " + strings.Repeat("(a: ", 100),
	} {
		if i, err := ParseInterface(wrong); err == nil {
			t.Errorf("ParseInterface(%q) = %v, want an error", wrong, i)
		}
	}
}

func TestCheck(t *testing.T) {
	i := parse(t, example)
	tail, _ := i.Find("method", "Tail")
	record, _ := i.Find("type", "Record")
	for _, c := range []struct {
		t          Type
		parameters string
		want       string
	}{
		{tail.In, `{"lines": 3}`, ""},
		{tail.In, ``, "lines"},
		{tail.In, `{"lines": 3.5}`, "lines"},
		{tail.In, `{"lines": "3"}`, "lines"},
		{tail.In, `{"lines": null}`, "lines"},
		{tail.In, `{"lines": 99999999999999999999}`, "lines"},
		{tail.In, `{"lines": 3, "and": 1}`, "and"},
		{tail.In, `{"lines": 3, "lines": 4}`, "parameters"},
		{tail.In, `[]`, "parameters"},
		{tail.Out, `{"records": [{"time": 1, "text": "", "rest": {"a": [1]}}], "box": {"x": 1, "y": true}}`, ""},
		{tail.Out, `{"records": [{"time": 1, "text": 2, "rest": {}}], "box": {"x": 1, "y": true}}`, "records[0].text"},
		{tail.Out, `{"records": [], "box": {"x": 1, "y": 0}}`, "box.y"},
		{record.In, `{"time": 1, "text": "a", "from": "kernel", "rest": {}}`, ""},
		{record.In, `{"time": 1, "text": "a", "from": null, "rest": {}}`, ""},
		{record.In, `{"time": 1, "text": "a", "from": "elsewhere", "rest": {}}`, "from"},
		{record.In, `{"time": 1, "text": "a", "rest": {"a": null}}`, "rest"},
	} {
		if got := i.Check(c.t, json.RawMessage(c.parameters)); got != c.want {
			t.Errorf("Check(%v, %s) = %q, want %q", c.t, c.parameters, got, c.want)
		}
	}
	loop := parse(t, "interface a.b type A (a: ?B) type B (b: ?A)")
	a, _ := loop.Find("type", "A")
	if got := loop.Check(a.In, json.RawMessage(`{"a": {"b": {}}}`)); got != "" {
		t.Errorf("Check of a type that names itself = %q", got)
	}
}

func TestParseCall(t *testing.T) {
	for _, text := range []string{
		`{"method":"a.b.C"}`, `{"method":"a.b.C","parameters":{"x":{"y":[1,2]}},"oneway":true,"more":true,"upgrade":true}`,
	} {
		c, err := ParseCall([]byte(text))
		if err != nil {
			t.Errorf("ParseCall(%s): %v", text, err)
			continue
		}
		if again, err := c.Print(); string(again) != text+"\x00" || err != nil {
			t.Errorf("Print() = %q, %v, want %s", again, err, text)
		}
	}
	for _, wrong := range []string{
		``, `{}`, `[]`, `null`, `{"method":"C"}`, `{"method":"a.b.c"}`, `{"method":"a.b.C","parameters":[]}`, `{"method":"a.b.C","parameters":1}`,
		`{"method":"a.b.C","method":"a.b.D"}`, `{"method":"a.b.C","root":true}`, `{"Method":"a.b.C"}`, `{"method":"a.b.C","Method":"a.b.D"}`, `{"method":"a.b.C"} {}`, `{"method":"a.b.C","more":1}`,
		`{"method":"a.b.C","parameters":{"a":1,"a":2}}`, "{\"method\":\"a.b.C\",\"parameters\":{\"a\":\"\xff\"}}",
		`{"method":"a.b.C","parameters":{"a":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `}}`,
	} {
		if c, err := ParseCall([]byte(wrong)); err == nil {
			t.Errorf("ParseCall(%.60s) = %+v, want an error", wrong, c)
		}
	}
	for _, wrong := range []string{`{"error":"x"}`, `{"parameters":[]}`, `{"parameters":{}, "also": 1}`, ``} {
		if r, err := ParseReply([]byte(wrong)); err == nil {
			t.Errorf("ParseReply(%s) = %+v, want an error", wrong, r)
		}
	}
}

func TestReader(t *testing.T) {
	big := strings.Repeat("x", MaxMessage)
	r := NewReader(iotest.HalfReader(strings.NewReader("one\x00\x00" + big + "\x00")))
	for _, want := range []string{"one", "", big} {
		if got, err := r.Next(); string(got) != want || err != nil {
			t.Errorf("Next() = %.20q, %v, want %.20q", got, err, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("Next() at the end = %v, want io.EOF", err)
	}
	for _, wrong := range []string{"half", big + "x\x00", big + "x"} {
		if got, err := NewReader(strings.NewReader(wrong)).Next(); err == nil || err == io.EOF {
			t.Errorf("Next() of %.20q… = %.20q, %v, want an error", wrong, got, err)
		}
	}
}

func FuzzParseInterface(f *testing.F) {
	f.Add(example)
	f.Fuzz(func(t *testing.T, text string) {
		i, err := ParseInterface(text)
		if err != nil {
			return
		}
		again, err := ParseInterface(i.String())
		if err != nil || !reflect.DeepEqual(again, i) {
			t.Errorf("ParseInterface(%q) = %+v, %v, want %+v", i.String(), again, err, i)
		}
	})
}

func FuzzParseCall(f *testing.F) {
	f.Add([]byte(`{"method":"a.b.C","parameters":{"lines":[1,2.5,null,{"k":"v"}]},"more":true}`))
	i := parse(f, example)
	tail, _ := i.Find("method", "Tail")
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCall(b)
		if err != nil {
			return
		}
		i.Check(tail.In, c.Parameters)
		text, err := c.Print()
		if err != nil {
			return // escapes made it larger than a message
		}
		again, err := ParseCall(text[:len(text)-1])
		if err != nil || again.Method != c.Method || again.More != c.More {
			t.Errorf("ParseCall(Print(%+v)) = %+v, %v", c, again, err)
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add([]byte(`{"parameters":{"a":1},"continues":true,"error":"a.b.C"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b)
		if err != nil {
			return
		}
		text, err := r.Print()
		if err != nil {
			return
		}
		if _, err := ParseReply(text[:len(text)-1]); err != nil {
			t.Errorf("ParseReply(%q): %v", text, err)
		}
	})
}
