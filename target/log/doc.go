// Package log is the service that keeps the log: what the kernel says, what it
// refused to services (audit), and what services write to their standard output.
// It writes plain lines (cloison/format/logline) into files of a bounded number
// and size.
//
// Who wrote a line is known by the descriptor that it came from; PID 1 made them
// and gives it all of them already open: the service has no privilege. Each
// source has its own rate, so that one that floods loses its own lines only.
//
// It needs a folder of its own and, in the names of its declaration: notify,
// kmsg, audit, outputs and its Varlink socket log.
package log
