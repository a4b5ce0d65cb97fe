package logtree

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a node of the tree: SHA-256.
type Hash = tlog.Hash

// LeafHash is the leaf of a line.
func LeafHash(line []byte) Hash {
	b := make([]byte, 0, 1024)
	b = append(append(b, 0), line...)
	return sha256.Sum256(b)
}

// Range stands for the leaves from Begin up to and without End by the fewest
// nodes that only they are below, from left to right. One that begins at 0 is a
// whole tree; without the leaves, it can still grow.
//
// All proofs of a log are ranges. That record i is in a tree: its leaf between
// the ranges before and behind it. That a tree has grown from a smaller one: the
// smaller one as a range, and the range of what came since.
type Range struct {
	Begin, End uint64
	Nodes      []Hash
}

// widths returns the sizes of the nodes of a range.
func widths(begin, end uint64) []uint64 {
	var w []uint64
	for at := begin; at < end; {
		size := uint64(1) << (bits.Len64(end-at) - 1)
		if at != 0 {
			size = min(size, at&-at)
		}
		w, at = append(w, size), at+size
	}
	return w
}

// NewRange checks that nodes are as many as a range has.
func NewRange(begin, end uint64, nodes []Hash) (Range, error) {
	if begin > end || end > 1<<53 {
		return Range{}, fmt.Errorf("the leaves from %d to %d are no range", begin, end)
	}
	if want := len(widths(begin, end)); len(nodes) != want {
		return Range{}, fmt.Errorf("the leaves from %d to %d have %d nodes, not %d", begin, end, want, len(nodes))
	}
	return Range{begin, end, nodes}, nil
}

// Add appends a leaf.
func (r *Range) Add(leaf Hash) { r.add(leaf, 1) }

// add appends a node over size leaves, which its place allows.
func (r *Range) add(node Hash, size uint64) {
	start := r.End
	r.End += size
	// A right child makes its parent with the left one, which is the last node.
	for start&size != 0 && start-size >= r.Begin {
		last := len(r.Nodes) - 1
		node = tlog.NodeHash(r.Nodes[last], node)
		r.Nodes = r.Nodes[:last]
		start -= size
		size <<= 1
	}
	r.Nodes = append(r.Nodes, node)
}

// Join appends the range that begins where this one ends.
func (r *Range) Join(next Range) error {
	if next.Begin != r.End {
		return fmt.Errorf("a range that begins at %d does not follow one that ends at %d", next.Begin, r.End)
	}
	for i, size := range widths(next.Begin, next.End) {
		r.add(next.Nodes[i], size)
	}
	return nil
}

// Clone returns one that can grow by itself.
func (r Range) Clone() Range {
	return Range{r.Begin, r.End, append(make([]Hash, 0, len(r.Nodes)+1), r.Nodes...)}
}

// Root returns the hash of the tree (RFC 9162, section 2.1.1).
func (r Range) Root() (Hash, error) {
	if r.Begin != 0 {
		return Hash{}, errors.New("internal error: only a range from 0 on is a tree")
	}
	if r.End == 0 {
		return sha256.Sum256(nil), nil
	}
	root := r.Nodes[len(r.Nodes)-1]
	for i := len(r.Nodes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(r.Nodes[i], root)
	}
	return root, nil
}

// Grown checks that a tree has grown from a smaller one, whose checkpoint is
// known: before is the smaller one, added what came since.
func Grown(before, added Range, old, now Checkpoint) error {
	if before.Begin != 0 || before.End != old.Size || added.End != now.Size {
		return fmt.Errorf("the proof is not from %d to %d", old.Size, now.Size)
	}
	root, err := before.Root()
	if err != nil {
		return err
	}
	if root != old.Root {
		return fmt.Errorf("the first %d records are not what they were", old.Size)
	}
	tree := before.Clone()
	if err := tree.Join(added); err != nil {
		return err
	}
	if root, err = tree.Root(); err != nil {
		return err
	}
	if root != now.Root {
		return fmt.Errorf("the tree of %d records has not grown from that of %d", now.Size, old.Size)
	}
	return nil
}
