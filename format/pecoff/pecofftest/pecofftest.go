// Package pecofftest makes small PE images for tests. It needs nothing.
//
// Source: Microsoft, "PE Format".
package pecofftest

import (
	"encoding/binary"

	"cloison/format/pecoff"
)

const (
	peOffset       = 0x40
	fileAlignment  = 0x200
	sectionAlign   = 0x1000
	optionalHeader = peOffset + 4 + 20
	sectionTable   = optionalHeader + 240
)

// Section is a section to be; its data is padded to the file alignment.
type Section struct {
	Name string
	Data []byte
}

// Image returns a well-formed PE32+ image for x86-64 with NX_COMPAT set, the
// sections at addresses from 0x1000 on, and headers of exactly headers bytes
// (a multiple of 512).
func Image(headers int, sections ...Section) []byte {
	le := binary.LittleEndian
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], peOffset)
	copy(b[peOffset:], "PE\x00\x00")
	fh, oh := b[peOffset+4:], b[optionalHeader:]
	le.PutUint16(fh, 0x8664)
	le.PutUint16(fh[2:], uint16(len(sections)))
	le.PutUint32(fh[4:], 0x5eed) // a build time
	le.PutUint16(fh[16:], 240)
	le.PutUint16(fh[18:], 0x22e)
	le.PutUint16(oh, 0x20b)
	le.PutUint32(oh[32:], sectionAlign)
	le.PutUint32(oh[36:], fileAlignment)
	le.PutUint32(oh[60:], uint32(headers))
	le.PutUint16(oh[68:], 10)
	le.PutUint16(oh[70:], 0x160)
	le.PutUint32(oh[108:], 16)
	address := uint32(sectionAlign)
	var table, data []byte
	for _, s := range sections {
		raw := append([]byte(nil), s.Data...)
		raw = append(raw, make([]byte, -len(raw)&(fileAlignment-1))...)
		table = pecoff.Section{
			Name: s.Name, VirtualSize: uint32(len(s.Data)), VirtualAddress: address,
			SizeOfRawData: uint32(len(raw)), PointerToRawData: uint32(headers + len(data)), Characteristics: 0x40000040,
		}.AppendHeader(table)
		data = append(data, raw...)
		address += (uint32(len(s.Data)) + sectionAlign) &^ (sectionAlign - 1)
	}
	copy(b[sectionTable:], table)
	le.PutUint32(oh[56:], address)
	return append(b, data...)
}
