package rogue

import "runtime"

// pause waits in the kernel for ever. The runtime cannot take its goroutine
// aside: it is assembly, which is never preempted.
func pause()

// hang stops every goroutine of PID 1, the loop that feeds the watchdog too: the
// garbage collector waits until all stand still, and one of them never does.
func (r *rogue) hang() error {
	r.say("hang: nothing runs in PID 1 from here on")
	go pause()
	runtime.Gosched()
	for {
		runtime.GC()
	}
}
