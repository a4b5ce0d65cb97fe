package flow

import (
	"fmt"
	"math"
	"strings"
)

// look is how a kind of node is drawn: shape and colour both tell it.
type look struct {
	what         string // in the legend
	fill, stroke string
	outline      func(x, y, w, h float64) string // path data around the middle
	dashed       bool
}

var looks = map[Kind]look{
	Service:    {"service", "#ffffff", "#0f172a", rounded(6), false},
	PID1:       {"PID 1", "#e2e8f0", "#0f172a", rounded(6), false},
	Socket:     {"socket", "#e0f2fe", "#0369a1", rounded(100), false},
	Descriptor: {"descriptor from PID 1", "#f8fafc", "#475569", rounded(100), true},
	Network:    {"network", "#fef3c7", "#b45309", hexagon, false},
	Interface:  {"interface of the machine", "#fee2e2", "#b91c1c", hexagon, false},
	Device:     {"device", "#f3e8ff", "#7e22ce", cut, false},
	Path:       {"file or folder", "#dcfce7", "#15803d", folder, false},
}

// rounded is a box with corners of at most radius.
func rounded(radius float64) func(x, y, w, h float64) string {
	return func(x, y, w, h float64) string {
		r := min(radius, h/2)
		return fmt.Sprintf("M%g %gh%ga%g %g 0 0 1 %g %gv%ga%g %g 0 0 1 %g %gh%ga%g %g 0 0 1 %g %gv%ga%g %g 0 0 1 %g %gz",
			x-w/2+r, y-h/2, w-2*r, r, r, r, r, h-2*r, r, r, -r, r, 2*r-w, r, r, -r, -r, 2*r-h, r, r, r, -r)
	}
}

func hexagon(x, y, w, h float64) string {
	const in = 9
	return fmt.Sprintf("M%g %gL%g %gH%gL%g %gL%g %gH%gz", x-w/2, y, x-w/2+in, y-h/2, x+w/2-in, x+w/2, y, x+w/2-in, y+h/2, x-w/2+in)
}

func cut(x, y, w, h float64) string {
	const in = 8
	return fmt.Sprintf("M%g %gH%gL%g %gV%gH%gL%g %gz", x-w/2+in, y-h/2, x+w/2, x+w/2, y-h/2, y+h/2, x-w/2, x-w/2, y-h/2+in)
}

func folder(x, y, w, h float64) string {
	const tab, up = 26, 5
	return fmt.Sprintf("M%g %gv%gh%dl%d %dH%gV%gH%gz", x-w/2, y+h/2, -h-up, tab, up, up, x+w/2, y+h/2, x-w/2)
}

// Margins of the picture.
const (
	margin     = 24
	headHeight = 64
	footHeight = 78
)

// SVG draws the graph: SVG 1.1, without scripts, fonts or links, and with the
// flows as text for whoever cannot see them.
func (g *Graph) SVG(title string) string {
	columns, lines := layout(g)
	width, height := 0.0, 0.0
	for _, column := range columns {
		for _, p := range column {
			width, height = max(width, p.x+p.width/2), max(height, p.y+p.height/2)
		}
	}
	legend := g.legend()
	width = max(width, legendWidth(legend), float64(letter*len(title)))
	all, down := width+2*margin, height+2*margin+headHeight+footHeight

	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" width="%g" height="%g" role="img" aria-labelledby="title desc" font-family="sans-serif" font-size="13">`, all, down, all, down)
	p(`  <title id="title">%s</title>`, escape(title))
	p(`  <desc id="desc">%s</desc>`, escape(g.sentences()))
	p(`  <defs>`)
	p(`    <marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="#334155"/></marker>`)
	p(`  </defs>`)
	p(`  <rect width="%g" height="%g" rx="8" fill="#f8fafc"/>`, all, down)
	p(`  <text x="%d" y="%d" font-size="18" font-weight="bold" fill="#0f172a">%s</text>`, margin, margin+16, escape(title))
	p(`  <text x="%d" y="%d" fill="#475569">What the declarations allow. What is not drawn is refused.</text>`, margin, margin+36)
	p(`  <g transform="translate(%d %d)">`, margin, margin+headHeight)
	p(`    <g fill="none" stroke="#334155" stroke-width="1.5">`)
	for _, l := range lines {
		p(`      <path d="%s"%s/>`, l.path(), l.tips())
	}
	p(`    </g>`)
	for _, column := range columns {
		for _, n := range column {
			if n.node != nil {
				p("%s", n.svg("    "))
			}
		}
	}
	p(`  </g>`)
	p(`  <g transform="translate(%d %g)" aria-hidden="true">`, margin, down-footHeight)
	p(`    <path d="M0 0H%g" stroke="#cbd5e1"/>`, width)
	for _, line := range legend {
		p("%s", line.text)
	}
	p(`  </g>`)
	p(`</svg>`)
	return b.String()
}

// path is a curve through the places of a line, level where it meets them.
func (l *drawn) path() string {
	var b strings.Builder
	for i, to := range l.through[1:] {
		from := l.through[i]
		x1, x2, y1, y2 := from.x+from.width/2, to.x-to.width/2, from.y, to.y
		if i == 0 {
			y1 += l.start
			fmt.Fprintf(&b, "M%g %g", x1, y1)
		}
		if i == len(l.through)-2 {
			y2 += l.end
		}
		middle := math.Round((x1 + x2) / 2)
		fmt.Fprintf(&b, "C%g %g %g %g %g %g", middle, y1, middle, y2, x2, y2)
	}
	return b.String()
}

func (l *drawn) tips() string {
	const begin, end = ` marker-start="url(#tip)"`, ` marker-end="url(#tip)"`
	switch {
	case l.both:
		return begin + end
	case l.leftward:
		return begin
	}
	return end
}

func (p *place) svg(indent string) string {
	style, bold := looks[p.node.Kind], ` font-weight="bold"`
	dash := ""
	if style.dashed {
		dash = ` stroke-dasharray="4 3"`
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s<g><title>%s</title><path d=\"%s\" fill=\"%s\" stroke=\"%s\" stroke-width=\"1.5\"%s/>", indent,
		escape(p.node.words()), style.outline(p.x, p.y, p.width, p.height), style.fill, style.stroke, dash)
	top := p.y - float64(lineStep*len(p.text))/2
	for i, t := range p.text {
		size := ""
		if i > 0 {
			bold, size = "", ` font-size="11"`
		}
		fmt.Fprintf(&b, `<text x="%g" y="%g" text-anchor="middle" fill="#0f172a"%s%s>%s</text>`, p.x, math.Round(top+float64(lineStep*i)+13), bold, size, escape(t))
	}
	b.WriteString("</g>")
	return b.String()
}

// entry is a piece of the legend, drawn at its place.
type entry struct {
	text string
	end  float64
}

// legend shows what the kinds of nodes that there are, and the lines, mean.
func (g *Graph) legend() []entry {
	var entries []entry
	x := 0.0
	for _, kind := range kinds {
		there := false
		for _, n := range g.Nodes {
			there = there || n.Kind == kind
		}
		if !there {
			continue
		}
		style, dash := looks[kind], ""
		if style.dashed {
			dash = ` stroke-dasharray="4 3"`
		}
		end := x + 46 + float64(letter*len(style.what))
		entries = append(entries, entry{fmt.Sprintf(`    <path d="%s" fill="%s" stroke="%s" stroke-width="1.5"%s/><text x="%g" y="26" fill="#0f172a">%s</text>`,
			style.outline(x+20, 22, 36, 16), style.fill, style.stroke, dash, x+46, style.what), end})
		x = end + 14
	}
	const how = `<path d="M%d 50H%d" stroke="#334155" stroke-width="1.5" marker-end="url(#tip)"%s/><text x="%d" y="54" fill="#0f172a">%s</text>`
	return append(entries, entry{"    " + fmt.Sprintf(how, 2, 38, "", 46, "information can flow this way") +
		fmt.Sprintf(how, 272, 308, ` marker-start="url(#tip)"`, 316, "both ways"), 400})
}

func legendWidth(entries []entry) float64 {
	width := 0.0
	for _, e := range entries {
		width = max(width, e.end)
	}
	return width
}

// sentences are the flows in words.
func (g *Graph) sentences() string {
	var all []string
	for _, l := range g.lines() {
		arrow := "to"
		if l.both {
			arrow = "to and from"
		}
		all = append(all, fmt.Sprintf("%s %s %s", l.From.words(), arrow, l.To.words()))
	}
	if len(all) == 0 {
		return "Nothing flows."
	}
	return "Information can flow from " + strings.Join(all, "; from ") + "."
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")

func escape(s string) string { return escaper.Replace(s) }
