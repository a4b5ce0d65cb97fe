package log

import (
	_ "embed"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"cloison/format/logrecord"
	"cloison/format/logtree"
	"cloison/target/varlink"
)

//go:embed cloison.log.varlink
var definition string

const (
	// maxAnswer leaves room in a message.
	maxAnswer = 96 << 10
	maxCount  = 1000
	// maxLook is how many records one search looks at.
	maxLook = 20000
	maxWait = 20
)

// Who may call what: those who are told what was done, those who do it, and those
// who carry checkpoints and records away.
var (
	readers = []string{"role-audit"}
	actors  = []string{"configd", "netd", "role-admin", "role-audit", "role-update", "sshd", "timed"}
)

// Offer is the service's Varlink side, with its access table.
func (c *Collector) Offer(peers map[uint32]string) varlink.Service {
	return varlink.Service{
		Product: "Cloison log", Version: "1", Definitions: []string{definition}, Peers: peers,
		Methods: []varlink.Method{
			{Name: "cloison.Log.Append", Who: actors, Do: answer(c.append)},
			{Name: "cloison.Log.Last", Who: append([]string{"console"}, readers...), Do: answer(c.last)},
			{Name: "cloison.Log.Read", Who: append([]string{"logexport"}, readers...), Do: answer(c.read)},
			{Name: "cloison.Log.Search", Who: readers, Do: answer(c.search)},
			{Name: "cloison.Log.Checkpoint", Who: append([]string{"anchord"}, readers...), Do: answer(c.checkpoint)},
			{Name: "cloison.Log.Prove", Who: append([]string{"anchord"}, readers...), Do: answer(c.prove)},
			{Name: "cloison.Log.Export", Who: readers, Do: answer(c.export)},
			{Name: "cloison.Log.Verify", Who: readers, Do: answer(c.verify)},
		},
	}
}

// answer reads a method's parameters into what it takes.
func answer[In, Out any](do func(caller string, in In) (Out, error)) func(string, json.RawMessage) (any, error) {
	return func(caller string, parameters json.RawMessage) (any, error) {
		var in In
		if len(parameters) > 0 {
			if err := json.Unmarshal(parameters, &in); err != nil {
				return nil, err
			}
		}
		out, err := do(caller, in)
		var gone *removed
		if errors.As(err, &gone) {
			return nil, &varlink.Error{Name: "cloison.Log.Removed", Parameters: map[string]uint64{"first": gone.first}}
		}
		return out, err
	}
}

func outOfRange(argument string) error {
	return &varlink.Error{Name: "cloison.Log.OutOfRange", Parameters: map[string]string{"argument": argument}}
}

type action struct {
	Who     string `json:"who"`
	Role    string `json:"role"`
	From    string `json:"from"`
	Verb    string `json:"verb"`
	Change  string `json:"change"`
	Result  string `json:"result"`
	Message string `json:"message"`
}

type sequence struct {
	Sequence uint64 `json:"sequence"`
}

func (c *Collector) append(caller string, in action) (sequence, error) {
	if in.Verb == "" {
		return sequence{}, outOfRange("verb")
	}
	r := logrecord.Record{
		Time: c.now().UTC().Truncate(time.Microsecond), Source: "service/" + caller, Who: in.Who, Role: in.Role, From: in.From,
		Verb: in.Verb, Change: in.Change, Result: in.Result, Message: in.Message,
	}
	r.Clean()
	done := make(chan written, 1)
	// Its own rate: what a service prints leaves its actions room.
	if !c.queue.push(c.up(), "action "+caller, r, done) {
		return sequence{}, &varlink.Error{Name: "cloison.Log.TooMuch"}
	}
	select {
	case w := <-done:
		if w.err != nil {
			return sequence{}, &varlink.Error{Name: "cloison.Log.NotWritten", Parameters: map[string]string{"reason": w.err.Error()}}
		}
		return sequence{w.sequence}, nil
	case <-c.end:
		return sequence{}, &varlink.Error{Name: "cloison.Log.NotWritten", Parameters: map[string]string{"reason": "the log ends"}}
	}
}

// page is an answer with records.
type page struct {
	Records []json.RawMessage `json:"records"`
	Next    uint64            `json:"next"`
}

// fill takes a record while there is room.
func (p *page) fill(sequence uint64, line []byte, room *int) bool {
	if *room -= len(line) + 1; *room < 0 && len(p.Records) > 0 {
		return false
	}
	p.Records, p.Next = append(p.Records, json.RawMessage(string(line))), sequence+1
	return true
}

type count struct {
	Count int `json:"count"`
}

func (c *Collector) last(_ string, in count) (map[string][]json.RawMessage, error) {
	if in.Count < 1 || in.Count > maxCount {
		return nil, outOfRange("count")
	}
	v := c.store.view()
	first := v.first()
	if v.end-first > uint64(in.Count) {
		first = v.end - uint64(in.Count)
	}
	records, sizes, total := []json.RawMessage{}, []int{}, 0
	err := v.records(first, func(_ uint64, line []byte) bool {
		records, sizes, total = append(records, json.RawMessage(string(line))), append(sizes, len(line)+1), total+len(line)+1
		// The newest count most.
		for total > maxAnswer {
			total -= sizes[0]
			records, sizes = records[1:], sizes[1:]
		}
		return true
	})
	return map[string][]json.RawMessage{"records": records}, err
}

type reading struct {
	First uint64 `json:"first"`
	Count int    `json:"count"`
	Wait  int    `json:"wait"`
}

func (c *Collector) read(_ string, in reading) (page, error) {
	if in.Count < 1 || in.Count > maxCount {
		return page{}, outOfRange("count")
	}
	if in.Wait < 0 || in.Wait > maxWait {
		return page{}, outOfRange("wait")
	}
	v := c.store.view()
	if in.First > v.end {
		return page{}, outOfRange("first")
	}
	if in.First == v.end && in.Wait > 0 {
		select {
		case <-v.grown:
			v = c.store.view()
		case <-time.After(time.Duration(in.Wait) * time.Second):
		case <-c.end:
		}
	}
	p := page{Records: []json.RawMessage{}, Next: max(in.First, v.first())}
	room := maxAnswer
	err := v.records(in.First, func(sequence uint64, line []byte) bool {
		return p.fill(sequence, line, &room) && len(p.Records) < in.Count
	})
	return p, err
}

type searching struct {
	Text   string `json:"text"`
	Source string `json:"source"`
	First  uint64 `json:"first"`
	Count  int    `json:"count"`
}

type hits struct {
	page
	End uint64 `json:"end"`
}

func (c *Collector) search(_ string, in searching) (hits, error) {
	v := c.store.view()
	switch {
	case in.Count < 1 || in.Count > maxCount:
		return hits{}, outOfRange("count")
	case in.First > v.end:
		return hits{}, outOfRange("first")
	case in.Source != "" && !logrecord.IsSource(in.Source):
		return hits{}, outOfRange("source")
	}
	h := hits{page{Records: []json.RawMessage{}, Next: max(in.First, v.first())}, v.end}
	room, looked := maxAnswer, 0
	var wrong error
	err := v.records(in.First, func(sequence uint64, line []byte) bool {
		if looked++; looked > maxLook || len(h.Records) == in.Count {
			return false
		}
		r, err := logrecord.Parse(string(line))
		if err != nil {
			wrong = err
			return false
		}
		if (in.Source != "" && r.Source != in.Source) || !strings.Contains(r.String(), in.Text) {
			h.Next = sequence + 1
			return true
		}
		return h.fill(sequence, line, &room)
	})
	return h, errors.Join(err, wrong)
}

type signed struct {
	Note string `json:"note"`
	Key  string `json:"key"`
	Size uint64 `json:"size"`
}

// sign makes a checkpoint of all that there is.
func (c *Collector) sign() (view, error) {
	err := c.do(func() error {
		c.signed = c.up()
		return c.store.checkpoint()
	})
	return c.store.view(), err
}

func (c *Collector) checkpoint(string, struct{}) (signed, error) {
	v, err := c.sign()
	return signed{v.note, c.store.key.Public(), v.signed.Size}, err
}

type size struct {
	Size uint64 `json:"size"`
}

type proof struct {
	Before []logtree.Hash `json:"before"`
	Added  []logtree.Hash `json:"added"`
	Note   string         `json:"note"`
}

func (c *Collector) prove(_ string, in size) (proof, error) {
	v, err := c.sign()
	if err != nil {
		return proof{}, err
	}
	if in.Size > v.signed.Size {
		return proof{}, outOfRange("size")
	}
	before, added, err := v.prove(in.Size)
	p := proof{before.Nodes, added.Nodes, v.note}
	if p.Before == nil {
		p.Before = []logtree.Hash{}
	}
	if p.Added == nil {
		p.Added = []logtree.Hash{}
	}
	return p, err
}

type exporting struct {
	First uint64 `json:"first"`
	End   uint64 `json:"end"`
	At    uint64 `json:"at"`
}

type exported struct {
	Lines []string `json:"lines"`
	Next  uint64   `json:"next"`
	Done  bool     `json:"done"`
}

func (c *Collector) export(_ string, in exporting) (exported, error) {
	v := c.store.view()
	if in.End > v.signed.Size {
		var err error
		if v, err = c.sign(); err != nil {
			return exported{}, err
		}
	}
	switch {
	case in.End > v.signed.Size:
		return exported{}, outOfRange("end")
	case in.First >= in.End:
		return exported{}, outOfRange("first")
	case in.At < in.First || in.At > in.End:
		return exported{}, outOfRange("at")
	}
	lines, next, done, err := v.export(in.First, in.End, in.At, maxAnswer)
	if lines == nil {
		lines = []string{}
	}
	return exported{lines, next, done}, err
}

type verifying struct {
	File int `json:"file"`
}

type verified struct {
	Records uint64   `json:"records"`
	Faults  []string `json:"faults"`
	Next    int      `json:"next"`
}

func (c *Collector) verify(_ string, in verifying) (verified, error) {
	v := c.store.view()
	if in.File < 0 || in.File >= len(v.segments) {
		return verified{}, outOfRange("file")
	}
	r, next, err := v.verify(in.File)
	if err != nil {
		return verified{}, err
	}
	out := verified{r.Records, []string{}, next}
	for _, f := range r.Faults {
		out.Faults = append(out.Faults, f.File+": "+f.What)
	}
	return out, nil
}
