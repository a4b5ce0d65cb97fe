package supervise

import (
	"slices"

	"cloison/linux/power"
	"cloison/target/state"
)

// words is what services may ask PID 1 for, one word a message on their socket
// "supervisor", and which services may. A word that is not here has no meaning;
// who is not in its row is refused. do returns the answer.
var words = []struct {
	word string
	who  []string
	do   func(s *supervisor, r *run) (answer string, err error)
}{
	// The answer comes when all are ready: it is the banner of the console.
	{"begin", []string{"console"}, func(s *supervisor, r *run) (string, error) {
		if s.ready == 0 {
			s.beginner = r
			return "", nil
		}
		st, err := s.status(true)
		return st.String(), err
	}},
	{"status", []string{"console"}, func(s *supervisor, _ *run) (string, error) {
		st, err := s.status(true)
		return st.String(), err
	}},
	{"escrow", []string{"console"}, func(*supervisor, *run) (string, error) {
		text, err := state.Escrow(state.Folder)
		return string(text), err
	}},
	{"reboot", []string{"console"}, func(s *supervisor, _ *run) (string, error) { return "", s.stop("restarting", power.Restart) }},
	{"poweroff", []string{"console"}, func(s *supervisor, _ *run) (string, error) { return "", s.stop("switching off", power.Off) }},
}

// find returns the number of a word's row.
func find(word string) (row int, ok bool) {
	for i, w := range words {
		if w.word == word {
			return i, true
		}
	}
	return 0, false
}

// obey does what a service asks for.
func (s *supervisor) obey(r *run, word string) error {
	row, ok := find(word)
	if !ok || !slices.Contains(words[row].who, r.of.Name) {
		s.say("service %s may not ask for %q", r.of.Name, word)
		r.answer("refused: this service may not ask for it\n")
		return nil
	}
	answer, err := words[row].do(s, r)
	if err == nil && answer != "" {
		r.answer(answer)
	}
	return err
}
