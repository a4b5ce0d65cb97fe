// Package varlink reads and prints Varlink: interface definitions, and the
// messages of a connection. It needs bytes from a stream, and bounds how many,
// how deep and of what form they may be: a client is not trusted.
//
// Source: varlink.org, "Interface Definition", "Method Call", "Service
// Interface", as of 2026.
package varlink
