// Package audit reads the audit records that the kernel sends over netlink
// (Linux, include/uapi/linux/audit.h and include/uapi/linux/netlink.h). It needs
// the bytes of one message.
package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// headerSize is that of struct nlmsghdr, in bytes.
const headerSize = 16

// maxText is MAX_AUDIT_MESSAGE_LENGTH, in bytes.
const maxText = 8970

// Record is one record: type 1326 is a system call that seccomp refused, 1423
// what Landlock refused.
type Record struct {
	Type uint16
	Text string // "audit(SECONDS.MILLISECONDS:SERIAL): key=value …"
}

var textForm = regexp.MustCompile(`^audit\([0-9]{1,20}\.[0-9]{3}:[0-9]{1,20}\): `)

// Parse reads one message: a header in native byte order and a text, which may
// end in NUL and whose length the kernel's header does or does not count in.
func Parse(b []byte) (Record, error) {
	if len(b) < headerSize {
		return Record{}, errors.New("cannot read an audit record: it is too short")
	}
	ne := binary.NativeEndian
	// kauditd's own messages leave the header's size out of nlmsg_len
	// (kernel/audit.c, audit_log_end), so the datagram's length counts.
	if n := int(ne.Uint32(b)); n > len(b) {
		return Record{}, fmt.Errorf("cannot read an audit record: %d bytes in a message of %d", n, len(b))
	}
	text := strings.TrimRight(string(b[headerSize:]), "\x00\n ")
	if len(text) > maxText || !utf8.ValidString(text) {
		return Record{}, errors.New("cannot read an audit record: its text is too long or no text")
	}
	if !textForm.MatchString(text) {
		return Record{}, fmt.Errorf("cannot read an audit record: it begins with %.40q", text)
	}
	return Record{ne.Uint16(b[4:]), text}, nil
}

// Print makes a message that Parse reads.
func (r Record) Print() []byte {
	ne := binary.NativeEndian
	b := ne.AppendUint32(nil, uint32(headerSize+len(r.Text)))
	b = ne.AppendUint16(b, r.Type)
	b = append(b, make([]byte, headerSize-len(b))...)
	return append(b, r.Text...)
}
