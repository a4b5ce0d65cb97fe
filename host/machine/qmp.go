package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// errGone says that QEMU has closed its monitor.
var errGone = errors.New("QEMU closed its monitor")

// qmp talks QEMU's machine protocol (docs/interop/qmp-spec): one JSON object
// a line; commands carry an id that comes back with their answer; events
// come at any time.
type qmp struct {
	conn   io.ReadWriteCloser
	resets chan string
	done   chan struct{} // closed at the end of the line

	// stopped is closed when QEMU pauses a guest that ran, which it does by
	// itself only when it cannot go on.
	stopped chan struct{}

	write sync.Mutex

	mu      sync.Mutex
	last    int
	waiting map[int]chan qmpAnswer
	greeted chan struct{}
	ended   Exit

	hasStopped bool
}

type qmpAnswer struct {
	value json.RawMessage
	err   error
}

// qmpMessage is anything that QEMU says.
type qmpMessage struct {
	Greeting *struct{}       `json:"QMP"`
	ID       int             `json:"id"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
		Action string `json:"action"`
	} `json:"data"`
}

func newQMP(conn io.ReadWriteCloser) *qmp {
	q := &qmp{
		conn:    conn,
		resets:  make(chan string, 16),
		stopped: make(chan struct{}),
		done:    make(chan struct{}),
		waiting: map[int]chan qmpAnswer{},
		greeted: make(chan struct{}),
	}
	go q.read()
	return q
}

func (q *qmp) read() {
	defer close(q.done)
	lines := bufio.NewScanner(q.conn)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m qmpMessage
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			q.conn.Close() // not QEMU: whoever waits learns it from done
			return
		}
		q.handle(m)
	}
}

func (q *qmp) handle(m qmpMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case m.Greeting != nil:
		close(q.greeted)
	case m.Event == "RESET":
		q.ended.Resets++
		select {
		case q.resets <- m.Data.Reason:
		default: // nobody listens; Exit still counts it
		}
	case m.Event == "WATCHDOG":
		q.ended.Watchdog = true
	case m.Event == "SHUTDOWN":
		q.ended.Reason = m.Data.Reason
	case m.Event == "STOP" && !q.hasStopped:
		q.hasStopped = true
		close(q.stopped)
	case m.Event != "":
	default:
		answer := qmpAnswer{value: m.Return}
		if m.Error != nil {
			answer.err = fmt.Errorf("QEMU refuses: %s (%s)", m.Error.Desc, m.Error.Class)
		}
		if c := q.waiting[m.ID]; c != nil {
			c <- answer
			delete(q.waiting, m.ID)
		}
	}
}

// hello waits for the greeting and leaves the negotiation mode.
func (q *qmp) hello(ctx context.Context) error {
	select {
	case <-q.greeted:
	case <-q.done:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := q.execute(ctx, "qmp_capabilities", nil)
	return err
}

// execute runs one command and waits for its answer.
func (q *qmp) execute(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	c := make(chan qmpAnswer, 1)
	q.mu.Lock()
	q.last++
	id := q.last
	q.waiting[id] = c
	q.mu.Unlock()
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, id})
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot encode QMP command %s: %w", command, err)
	}
	q.write.Lock()
	_, err = q.conn.Write(append(line, '\n'))
	q.write.Unlock()
	if err != nil {
		return nil, errGone
	}
	select {
	case answer := <-c:
		return answer.value, answer.err
	case <-q.done:
		// The answer may have come just before the end.
		select {
		case answer := <-c:
			return answer.value, answer.err
		default:
			return nil, errGone
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (q *qmp) exit() Exit {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ended
}
