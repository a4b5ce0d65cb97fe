// Package log is the service that keeps the log: what the kernel says, what it
// refused to services (audit), what services write to their standard output, and
// what was done at a role's request. It writes records (cloison/format/logtree)
// into files of a bounded size and age, as a Merkle log whose checkpoints it
// signs with a key that only it has.
//
// Who wrote a record is known by the descriptor that it came from, or by the
// kernel's word for who called; PID 1 made the descriptors and gives it all of
// them already open: the service has no privilege. Nobody who writes is made to
// wait for the disk: each source has its own rate and its own share of a queue,
// so that one that floods loses its own records only, and they are counted.
//
// It needs a folder of its own, the boot ID, and in the names of its declaration:
// notify, kmsg, audit, outputs and its Varlink socket log.
package log
