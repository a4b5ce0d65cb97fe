// Package config is the configuration service: it keeps the machine's documents
// (cloison/format/config) and makes them hold, all or none. A commit is checked,
// applied by the owners of its documents (cloison/target/apply), read back, and
// taken back by itself unless somebody confirms it from another session in time:
// nobody locks himself out. That survives the service's end and a power cut at
// any moment.
//
// It needs a folder that lasts, the product's policy in the image, sockets to the
// owners, and PID 1's public key to know whose session asks.
package config

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cloison/format/config"
	"cloison/format/session"
)

// Owner makes the documents of a concern hold, and says which holds.
type Owner interface {
	Apply(document []byte) error
	Running() ([]byte, error)
}

// Options are what the service works with.
type Options struct {
	Folder   string // of the service alone
	Policy   config.Policy
	Defaults config.Set // the product's
	// Owners has who applies each document; one without an owner has to be the
	// product's. A nil owner is one that needs nothing but the file.
	Owners map[string]Owner
	// Now is for people; SinceBoot, which nobody can set, orders sessions and
	// commits.
	Now       func() time.Time
	SinceBoot func() time.Duration
	Say       func(string) // one line for the log
	// step is called with the name of each step that a commit has reached.
	step func(string)
}

// Engine is the service without its socket.
type Engine struct {
	o     Options
	store store

	mu        sync.Mutex
	head      uint64
	documents config.Set // those that are confirmed
	waiting   *waiting   // a commit that is applied and not confirmed
	settling  bool       // owners may not yet have what is confirmed
}

// waiting is a commit that waits for its confirmation.
type waiting struct {
	revision config.Revision
	set      config.Set
	applied  time.Duration // since the boot: when it held
	until    time.Duration // since the boot
	timer    *time.Timer
}

// Errors that a caller can do something about.
var (
	errNothing = errors.New("no commit waits for a confirmation")
	errSession = errors.New("a commit is confirmed from another session, which was opened after it: that shows that one can still come in")
	errPerson  = errors.New("this product wants a commit to be confirmed by a second person")
	errStale   = errors.New("somebody else has committed since these documents were read")
	errStart   = errors.New("the configuration is still being applied after a restart: try again in a moment")
)

// busyError is another commit that waits.
type busyError struct {
	by   config.Person
	left time.Duration
}

func (e *busyError) Error() string {
	return fmt.Sprintf("a commit of %v waits for its confirmation, for another %v", e.by, e.left.Round(time.Second))
}

// delegationError is a change of what is the product's.
type delegationError struct{ key string }

func (e *delegationError) Error() string {
	return e.key + " is the product's: it is not delegated to the role admin"
}

// refusedError is what an owner says against a document.
type refusedError struct {
	concern string
	reason  error
}

func (e *refusedError) Error() string { return fmt.Sprintf("%s: %v", e.concern, e.reason) }
func (e *refusedError) Unwrap() error { return e.reason }

// Bounds of how long a commit waits.
const (
	minWait = 10 * time.Second
	maxWait = time.Hour
)

// Open reads what is kept, takes back what was not confirmed, and writes the
// documents for the owners that start after it.
func Open(o Options) (*Engine, error) {
	if o.step == nil {
		o.step = func(string) {}
	}
	e := &Engine{o: o, store: store{o.Folder}, settling: true}
	if err := e.store.prepare(); err != nil {
		return nil, err
	}
	numbers, err := e.store.numbers()
	if err != nil {
		return nil, err
	}
	e.documents = o.Defaults
	if len(numbers) > 0 {
		e.head = numbers[len(numbers)-1]
		r, err := e.store.revision(e.head)
		if err != nil {
			return nil, err
		}
		e.documents = e.understood(r)
	}
	lost, ok, err := e.store.pending()
	if err != nil {
		return nil, err
	}
	if ok && lost.Number > e.head {
		o.Say(fmt.Sprintf("revision %d of %v was not confirmed before the restart: it is taken back", lost.Number, lost.By))
	}
	if err := e.store.run(e.documents.Texts()); err != nil {
		return nil, err
	}
	if ok {
		err = e.store.end()
	}
	return e, err
}

// understood reads the documents of a revision. One of another release may have
// what this one does not know; then the product's stands in its place, which
// lets nobody in that the product does not.
func (e *Engine) understood(r config.Revision) config.Set {
	all := config.Set{}
	for _, concern := range config.Concerns() {
		d, err := config.Parse(concern, []byte(r.Documents[concern]), e.o.Defaults[concern])
		if err != nil {
			e.o.Say(fmt.Sprintf("revision %d has a document that this release does not understand; the product's own holds in its place: %v", r.Number, err))
			d = e.o.Defaults[concern]
		}
		all[concern] = d
	}
	return all
}

// Settle makes the owners have what is confirmed. It is called once, when the
// owners can be started; until it returns there is no commit.
func (e *Engine) Settle() {
	for _, concern := range config.Concerns() {
		owner := e.o.Owners[concern]
		if owner == nil {
			continue
		}
		wanted := config.Print(e.documents[concern])
		if err := ensure(owner, wanted); err != nil {
			e.o.Say(fmt.Sprintf("the document %s does not hold: %v", concern, err))
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settling = false
}

// ensure applies a document unless it holds.
func ensure(owner Owner, document []byte) error {
	running, err := owner.Running()
	if err == nil && string(running) == string(document) {
		return nil
	}
	return hold(owner, document)
}

// hold applies a document and reads it back.
func hold(owner Owner, document []byte) error {
	if err := owner.Apply(document); err != nil {
		return err
	}
	running, err := owner.Running()
	if err != nil {
		return err
	}
	if string(running) != string(document) {
		return errors.New("it was applied, and something else holds")
	}
	return nil
}

// Documents returns what is confirmed, and its number.
func (e *Engine) Documents() (uint64, config.Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.head, e.documents
}

// check reads documents over those of a revision and finds what would change.
func (e *Engine) check(base uint64, texts map[string]string) (config.Set, []config.Change, error) {
	if base != e.head {
		return nil, nil, errStale
	}
	set := config.Set{}
	all, err := config.ParseSet(texts, e.o.Defaults)
	if err != nil {
		return nil, nil, err
	}
	for concern, d := range e.documents {
		set[concern] = d
		if _, ok := texts[concern]; ok {
			set[concern] = all[concern]
		}
	}
	changes := config.Changes(e.documents, set)
	for _, c := range changes {
		if !c.Delegated(e.o.Policy.Delegate) {
			return nil, nil, &delegationError{c.Concern + "." + c.Key}
		}
		if _, ok := e.o.Owners[c.Concern]; !ok {
			return nil, nil, &refusedError{c.Concern, errors.New("nothing in this product applies it")}
		}
	}
	return set, changes, nil
}

// Check says what documents would change. Each is complete: what it leaves out is
// the product's. A concern without one stays as it is.
func (e *Engine) Check(base uint64, texts map[string]string) ([]config.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, changes, err := e.check(base, texts)
	return changes, err
}

// Commit makes documents hold and waits for the confirmation: after the call, not
// in it. Without a wait that is what the document system says. It returns the
// number of the revision, or 0 where nothing changes.
func (e *Engine) Commit(s session.Session, base uint64, texts map[string]string, wait time.Duration) (uint64, time.Duration, []config.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	set, changes, err := e.check(base, texts)
	if err != nil {
		return 0, 0, nil, err
	}
	return e.commit(s, "commit", set, changes, wait)
}

// Rollback commits what held at a revision; 0 is what the product brings.
func (e *Engine) Rollback(s session.Session, number uint64, wait time.Duration) (uint64, time.Duration, []config.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	target := e.o.Defaults
	if number > 0 {
		r, err := e.store.revision(number)
		if err != nil {
			return 0, 0, nil, fmt.Errorf("there is no revision %d any more", number)
		}
		target = e.understood(r)
	}
	set, changes, err := e.check(e.head, target.Complete(e.o.Defaults))
	if err != nil {
		return 0, 0, nil, err
	}
	return e.commit(s, fmt.Sprintf("rollback to %d", number), set, changes, wait)
}

// commit is the transaction.
func (e *Engine) commit(s session.Session, what string, set config.Set, changes []config.Change, wait time.Duration) (uint64, time.Duration, []config.Change, error) {
	fail := func(err error) (uint64, time.Duration, []config.Change, error) { return 0, 0, nil, err }
	switch {
	case e.settling:
		return fail(errStart)
	case e.waiting != nil:
		return fail(&busyError{e.waiting.revision.By, e.waiting.until - e.o.SinceBoot()})
	case len(changes) == 0:
		return 0, 0, changes, nil
	}
	if system, ok := set["system"].(*config.System); ok && wait == 0 {
		wait = config.Duration(system.Confirm)
	}
	wait = min(max(wait, minWait), maxWait)
	r := config.Revision{
		Number: e.head + 1, Time: e.o.Now(), What: what, By: person(s), Changes: changes,
		Documents: set.Kept(e.o.Defaults),
	}
	var concerns []string
	for _, c := range changes {
		if !slices.Contains(concerns, c.Concern) {
			concerns = append(concerns, c.Concern)
		}
	}
	// 1. From here on a restart takes it back.
	if err := e.store.begin(r); err != nil {
		return fail(errors.Join(err, e.store.end()))
	}
	e.o.step("begun")
	// 2. to 4. Applied, or as before.
	if err := e.apply(set, concerns); err != nil {
		return fail(errors.Join(err, e.takeBack(concerns)))
	}
	now := e.o.SinceBoot()
	w := &waiting{revision: r, set: set, applied: now, until: now + wait}
	w.timer = time.AfterFunc(wait, func() { e.expire(w) })
	e.waiting = w
	e.o.Say(fmt.Sprintf("revision %d (%s) by %v is applied and waits %v for its confirmation%s", r.Number, what, r.By, wait, list(changes)))
	e.o.step("waiting")
	return r.Number, wait, changes, nil
}

func list(changes []config.Change) string {
	text := ""
	for _, c := range changes {
		text += "; " + c.String()
	}
	return text
}

// apply makes the documents of these concerns hold.
func (e *Engine) apply(set config.Set, concerns []string) error {
	staged := map[string]string{}
	for _, concern := range concerns {
		staged[concern] = string(config.Print(set[concern]))
	}
	if err := e.store.stage(staged); err != nil {
		return err
	}
	e.o.step("staged")
	for _, concern := range concerns {
		// The file first: an owner that is started again meanwhile reads it.
		if err := e.store.swap(concern); err != nil {
			return err
		}
		e.o.step("swapped " + concern)
		if owner := e.o.Owners[concern]; owner != nil {
			if err := hold(owner, []byte(staged[concern])); err != nil {
				return &refusedError{concern, err}
			}
		}
		e.o.step("applied " + concern)
	}
	return nil
}

// takeBack makes what is confirmed hold again, the other way round. It goes on
// over an owner that fails: the others are worth it.
func (e *Engine) takeBack(concerns []string) error {
	var failed error
	for _, concern := range slices.Backward(concerns) {
		err := e.store.restore(concern)
		e.o.step("restored " + concern)
		if owner := e.o.Owners[concern]; owner != nil {
			err = errors.Join(err, ensure(owner, config.Print(e.documents[concern])))
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot take back the document %s: %w", concern, err))
		}
		e.o.step("taken back " + concern)
	}
	failed = errors.Join(failed, e.store.settle(concerns), e.store.end())
	if failed != nil {
		e.o.Say(failed.Error())
	}
	e.o.step("ended")
	return failed
}

// concerns are those that a waiting commit has changed.
func (w *waiting) concerns() []string {
	var all []string
	for _, c := range w.revision.Changes {
		if !slices.Contains(all, c.Concern) {
			all = append(all, c.Concern)
		}
	}
	return all
}

// expire takes a commit back that nobody has confirmed.
func (e *Engine) expire(w *waiting) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting != w {
		return
	}
	e.waiting = nil
	e.o.Say(fmt.Sprintf("nobody has confirmed revision %d of %v: it is taken back", w.revision.Number, w.revision.By))
	_ = e.takeBack(w.concerns()) // said there
}

// TakeBack takes a commit back at once.
func (e *Engine) TakeBack(s session.Session) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.waiting
	if w == nil {
		return errNothing
	}
	w.timer.Stop()
	e.waiting = nil
	e.o.Say(fmt.Sprintf("%v takes revision %d back", person(s), w.revision.Number))
	return e.takeBack(w.concerns())
}

// Confirm keeps a commit. Who confirms has come in after it held, and is another
// person where the product wants two.
func (e *Engine) Confirm(s session.Session) (uint64, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.waiting
	switch {
	case w == nil:
		return 0, errNothing
	case s.ID == w.revision.By.Session || s.Started <= w.applied:
		return 0, errSession
	case e.o.Policy.TwoPersons && s.Name == w.revision.By.Name:
		return 0, errPerson
	}
	r := w.revision
	r.ConfirmedBy = person(s)
	// On an error it waits on, and is taken back in time.
	if err := e.store.keep(r); err != nil {
		return 0, errors.Join(err, e.store.drop(r.Number))
	}
	e.o.step("kept")
	w.timer.Stop()
	e.waiting, e.head, e.documents = nil, r.Number, w.set
	e.o.Say(fmt.Sprintf("revision %d by %v is confirmed by %v", r.Number, r.By, r.ConfirmedBy))
	// What is left over harms nobody: the next start removes it.
	if err := errors.Join(e.store.end(), e.store.settle(w.concerns()), e.store.shrink()); err != nil {
		e.o.Say(err.Error())
	}
	e.o.step("ended")
	return r.Number, nil
}

// Waiting returns the commit that waits, and how long it still does.
func (e *Engine) Waiting() (config.Revision, time.Duration, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == nil {
		return config.Revision{}, 0, false
	}
	return e.waiting.revision, e.waiting.until - e.o.SinceBoot(), true
}

// History returns the newest revisions, the newest first, at most so many.
func (e *Engine) History(most int) ([]config.Revision, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	numbers, err := e.store.numbers()
	if err != nil {
		return nil, err
	}
	var all []config.Revision
	for _, n := range slices.Backward(numbers) {
		if len(all) == most {
			break
		}
		r, err := e.store.revision(n)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// Between says what changed from one revision to another.
func (e *Engine) Between(from, to uint64) ([]config.Change, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var sets [2]config.Set
	for i, n := range []uint64{from, to} {
		sets[i] = e.o.Defaults
		if n == 0 {
			continue
		}
		r, err := e.store.revision(n)
		if err != nil {
			return nil, fmt.Errorf("there is no revision %d any more", n)
		}
		sets[i] = e.understood(r)
	}
	return config.Changes(sets[0], sets[1]), nil
}

func person(s session.Session) config.Person {
	return config.Person{Name: s.Name, Role: s.Role, From: s.From, Session: s.ID}
}
