// Package swap makes and reads the first page of a swap area, as mkswap(8)
// writes it and swapon(2) wants it. It needs nothing but the standard library.
//
// Source: Linux, include/linux/swap.h (union swap_header) and
// mm/swapfile.c (read_swap_header). Integers are in the machine's byte order;
// x86-64's is little-endian.
package swap

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// PageSize is x86-64's, in bytes.
const PageSize = 4096

const (
	signature = "SWAPSPACE2" // at the end of the page
	version   = 1
	boot      = 1024 // bytes before the header, for a boot loader
	minPages  = 10   // mkswap makes none smaller
	maxPages  = 1<<32 - 1
)

// Header returns the first page of an area of size bytes, without label, UUID
// and bad pages. What is behind the last whole page is not used.
func Header(size uint64) ([]byte, error) {
	pages := size / PageSize
	if pages < minPages || pages > maxPages {
		return nil, fmt.Errorf("cannot make a swap area of %d pages: want %d to %d", pages, minPages, maxPages)
	}
	page := make([]byte, PageSize)
	binary.LittleEndian.PutUint32(page[boot:], version)
	binary.LittleEndian.PutUint32(page[boot+4:], uint32(pages-1)) // the last page
	copy(page[PageSize-len(signature):], signature)
	return page, nil
}

// Parse reads what Header prints, and nothing else, and returns the number of
// pages, the first one included.
func Parse(page []byte) (pages uint64, err error) {
	if len(page) != PageSize {
		return 0, fmt.Errorf("cannot read a swap header of %d bytes", len(page))
	}
	pages = uint64(binary.LittleEndian.Uint32(page[boot+4:])) + 1
	want, err := Header(pages * PageSize)
	if err != nil {
		return 0, fmt.Errorf("cannot read the swap header: %w", err)
	}
	if !bytes.Equal(page, want) {
		return 0, fmt.Errorf("cannot read the swap header: it is none of ours")
	}
	return pages, nil
}
