package flow

import (
	"cmp"
	"math"
	"slices"
)

// Distances of the picture, in SVG's user units, which are pixels at its size.
const (
	columnGap = 90
	rowGap    = 18
	padding   = 12 // between a node's border and its text
	lineStep  = 17 // from one line of text to the next
	letter    = 8  // width that is kept for a letter of the font
)

// place is a node in the picture, or where an edge passes a column: then it has
// no size.
type place struct {
	node          *Node // nil where an edge passes
	text          []string
	rank          int
	x, y          float64 // of its middle
	width, height float64
	left, right   []*place
}

// drawn is a line with the places that it runs through, from left to right.
type drawn struct {
	line
	through  []*place
	leftward bool // it points to the left
	// start and end are how far below the middles of the nodes it meets them, so
	// that lines do not hide each other's tips.
	start, end float64
}

// layout puts the graph into columns, the usual four steps of a layered drawing:
// take out cycles, give ranks, order the columns so that few lines cross, and
// place the nodes near their neighbours. The same graph gives the same picture.
//
// Source: K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of
// Hierarchical System Structures", 1981.
func layout(g *Graph) (columns [][]*place, lines []*drawn) {
	places := map[Node]*place{}
	for i, n := range g.Nodes {
		p := &place{node: &g.Nodes[i], text: g.label(n)}
		for _, t := range p.text {
			p.width = max(p.width, float64(letter*len([]rune(t))+2*padding))
		}
		p.height = float64(lineStep*len(p.text) + padding)
		places[n] = p
	}
	for _, l := range g.lines() {
		lines = append(lines, &drawn{line: l})
	}
	acyclic(g, lines)
	rank(g, lines, places)
	for _, p := range places {
		for len(columns) <= p.rank {
			columns = append(columns, nil)
		}
	}
	for _, n := range g.Nodes {
		p := places[n]
		columns[p.rank] = append(columns[p.rank], p)
	}
	for _, l := range lines {
		from, to := l.ends()
		l.through = []*place{places[from]}
		for r := places[from].rank + 1; r < places[to].rank; r++ {
			p := &place{rank: r}
			columns[r] = append(columns[r], p)
			l.through = append(l.through, p)
		}
		l.through = append(l.through, places[to])
		for i, p := range l.through[1:] {
			p.left = append(p.left, l.through[i])
			l.through[i].right = append(l.through[i].right, p)
		}
	}
	order(columns)
	position(columns)
	for _, p := range places {
		spread(lines, p, func(l *drawn) (at, next *place, meets *float64) { return l.through[0], l.through[1], &l.start })
		spread(lines, p, func(l *drawn) (at, next *place, meets *float64) {
			last := len(l.through) - 1
			return l.through[last], l.through[last-1], &l.end
		})
	}
	return columns, lines
}

// spread lays the lines of one side of a node beside each other, in the order
// of where they go.
func spread(lines []*drawn, p *place, side func(*drawn) (at, next *place, meets *float64)) {
	var here []*drawn
	for _, l := range lines {
		if at, _, _ := side(l); at == p {
			here = append(here, l)
		}
	}
	slices.SortStableFunc(here, func(a, b *drawn) int {
		_, x, _ := side(a)
		_, y, _ := side(b)
		return cmp.Compare(x.y, y.y)
	})
	step := min(12, (p.height-padding)/float64(len(here)))
	for i, l := range here {
		_, _, meets := side(l)
		*meets = math.Round(step * (float64(i) - float64(len(here)-1)/2))
	}
}

// ends returns the nodes of a line, the left one first.
func (l *drawn) ends() (left, right Node) {
	if l.leftward {
		return l.To, l.From
	}
	return l.From, l.To
}

// acyclic turns the lines that would close a circle.
func acyclic(g *Graph, lines []*drawn) {
	out := map[Node][]*drawn{}
	for _, l := range lines {
		out[l.From] = append(out[l.From], l)
	}
	const open, done = 1, 2
	state := map[Node]int{}
	var visit func(Node)
	visit = func(n Node) {
		state[n] = open
		for _, l := range out[n] {
			switch state[l.To] {
			case open:
				l.leftward = true
			case 0:
				visit(l.To)
			}
		}
		state[n] = done
	}
	// Who only sends stands on the left.
	in := map[Node]int{}
	for _, l := range lines {
		in[l.To]++
	}
	for _, roots := range []bool{true, false} {
		for _, n := range g.Nodes {
			if state[n] == 0 && (in[n] == 0) == roots {
				visit(n)
			}
		}
	}
}

// rank gives each node its column: one after all that are left of it, and then
// as near as can be to those on its right.
func rank(g *Graph, lines []*drawn, places map[Node]*place) {
	for range g.Nodes {
		for _, l := range lines {
			from, to := l.ends()
			places[to].rank = max(places[to].rank, places[from].rank+1)
		}
	}
	for range g.Nodes {
		for _, n := range g.Nodes {
			nearest, bound := math.MaxInt, false
			for _, l := range lines {
				from, to := l.ends()
				if from == n {
					nearest = min(nearest, places[to].rank-1)
				}
				bound = bound || to == n
			}
			if nearest != math.MaxInt && !bound {
				places[n].rank = nearest
			}
		}
	}
}

// sweeps is how often the columns are ordered anew.
const sweeps = 24

// order sorts each column by the middle of its neighbours, back and forth, and
// keeps the order in which fewest lines cross.
func order(columns [][]*place) {
	best, least := copyColumns(columns), crossings(columns)
	for sweep := range sweeps {
		for i := range columns {
			column, at := columns[i], func(p *place) []*place { return p.left }
			if sweep%2 == 1 {
				column, at = columns[len(columns)-1-i], func(p *place) []*place { return p.right }
			}
			sortByNeighbours(columns, column, at)
		}
		if n := crossings(columns); n < least {
			best, least = copyColumns(columns), n
		}
	}
	copy(columns, best)
}

func copyColumns(columns [][]*place) [][]*place {
	var c [][]*place
	for _, column := range columns {
		c = append(c, slices.Clone(column))
	}
	return c
}

func sortByNeighbours(columns [][]*place, column []*place, neighbours func(*place) []*place) {
	middle := map[*place]float64{}
	for i, p := range column {
		sum, all := 0, neighbours(p)
		for _, n := range all {
			sum += slices.Index(columns[n.rank], n)
		}
		if middle[p] = float64(i); len(all) > 0 {
			middle[p] = float64(sum) / float64(len(all))
		}
	}
	slices.SortStableFunc(column, func(a, b *place) int { return cmp.Compare(middle[a], middle[b]) })
}

// crossings counts the pairs of lines between two columns that cross.
func crossings(columns [][]*place) int {
	n := 0
	for _, column := range columns {
		var ends []int // of the lines, in the order of their beginnings
		for _, p := range column {
			var here []int
			for _, right := range p.right {
				here = append(here, slices.Index(columns[right.rank], right))
			}
			slices.Sort(here)
			ends = append(ends, here...)
		}
		for i, a := range ends {
			for _, b := range ends[:i] {
				if b > a {
					n++
				}
			}
		}
	}
	return n
}

// position gives coordinates: columns as wide as their widest node, and in them
// each node as near to the middle of its neighbours as its column lets it.
func position(columns [][]*place) {
	x := 0.0
	for _, column := range columns {
		width := 0.0
		for _, p := range column {
			width = max(width, p.width)
		}
		for i, p := range column {
			p.x = x + width/2
			if i > 0 {
				p.y = column[i-1].y + apart(column[i-1], p)
			}
		}
		x += width + columnGap
	}
	for sweep := range sweeps {
		for i := range columns {
			column := columns[i]
			if sweep%2 == 1 {
				column = columns[len(columns)-1-i]
			}
			settle(column)
		}
	}
	top := math.Inf(1)
	for _, column := range columns {
		for _, p := range column {
			top = min(top, p.y-p.height/2)
		}
	}
	for _, column := range columns {
		for _, p := range column {
			p.x, p.y = math.Round(p.x), math.Round(p.y-top)
		}
	}
}

// apart is how far the middles of two neighbours in a column are at least.
func apart(a, b *place) float64 { return (a.height+b.height)/2 + rowGap }

// settle moves the places of a column, whose order stays, so that the squares of
// their distances from where they would like to be are least: runs that would
// overlap are joined and stand around the mean of their wishes.
func settle(column []*place) {
	type run struct {
		first, n int
		sum      float64 // of the wishes for the first, were each alone
	}
	var runs []run
	offset := make([]float64, len(column)) // of each below the first of the column
	for i, p := range column {
		if i > 0 {
			offset[i] = offset[i-1] + apart(column[i-1], p)
		}
		wish := p.y
		if all := slices.Concat(p.left, p.right); len(all) > 0 {
			wish = 0
			for _, n := range all {
				wish += n.y
			}
			wish /= float64(len(all))
		}
		runs = append(runs, run{i, 1, wish - offset[i]})
		for len(runs) > 1 {
			a, b := runs[len(runs)-2], runs[len(runs)-1]
			if a.sum/float64(a.n) <= b.sum/float64(b.n) {
				break
			}
			runs = append(runs[:len(runs)-2], run{a.first, a.n + b.n, a.sum + b.sum})
		}
	}
	for _, r := range runs {
		for i := r.first; i < r.first+r.n; i++ {
			column[i].y = r.sum/float64(r.n) + offset[i]
		}
	}
}
