package play

import (
	"regexp"
	"strconv"
)

// own remembers what a player wrote, and complains of a read that does not show it.
//
// It complains only of what nobody else can have caused. A unit's client_ref and
// target are its owner's alone, so a read with others is stale (but a unit arrives). What is disbanded or closed never
// comes back. A unit or offer that is absent may have been killed, accepted or expired meanwhile by others; seen again
// later, reads went back in time, which is no write of one's own missed and is counted apart: a page that is served by
// legacy is fresher than a read model.
type own struct {
	miss   func(format string, args ...any)
	back   func(format string, args ...any)
	marks  map[int]mark // by unit
	absent map[int]bool // units that a read did not show
	killed map[int]bool // units disbanded by the player

	offers map[int]bool // trade → absent from a read
	ended  map[int]bool // trades accepted or cancelled by the player
}

// mark is what the player's last order must have left on a unit.
type mark struct {
	ref string // client_ref; empty: nothing is known
	to  int    // the province of its last move, 0 without one
}

func newOwn(miss, back func(string, ...any)) own {
	return own{miss: miss, back: back, marks: map[int]mark{}, absent: map[int]bool{}, killed: map[int]bool{}, offers: map[int]bool{}, ended: map[int]bool{}}
}

func (o *own) marked(unit int, m mark) { o.marks[unit] = m }

// unsure forgets the mark of a unit and gives it for restore.
func (o *own) unsure(unit int) mark {
	m := o.marks[unit]
	delete(o.marks, unit)
	return m
}

func (o *own) restore(unit int, m mark) {
	if m.ref != "" {
		o.marks[unit] = m
	}
}

func (o *own) offered(trade int) { o.offers[trade] = false }

func (o *own) gone(unit int) {
	delete(o.marks, unit)
	delete(o.absent, unit)
	o.killed[unit] = true
}

func (o *own) closed(trade int) {
	delete(o.offers, trade)
	o.ended[trade] = true
}

// units checks a list of all own units.
func (o *own) units(list []unit) {
	shown := o.someUnits(list)
	for id := range o.marks {
		if !shown[id] {
			o.absent[id] = true
		}
	}
}

// someUnits checks a list that may leave units out.
func (o *own) someUnits(list []unit) (shown map[int]bool) {
	shown = make(map[int]bool, len(list))
	for _, u := range list {
		shown[u.ID] = true
		o.alive(u.ID)
		want, ok := o.marks[u.ID]
		switch {
		case !ok:
		case u.ClientRef != want.ref:
			o.miss("unit %d shows client_ref %q, written was %q", u.ID, u.ClientRef, want.ref)
		case want.to != 0 && u.Target != want.to && (u.Target != 0 || u.Province != want.to):
			o.miss("unit %d is in %d on its way to %d, ordered was %d", u.ID, u.Province, u.Target, want.to)
		}
	}
	return shown
}

// mapUnits checks the map, which shows no marks.
func (o *own) mapUnits(list []mapUnit) {
	shown := make(map[int]bool, len(list))
	for _, u := range list {
		shown[int(u.ID)] = true
		o.alive(int(u.ID))
	}
	for id := range o.marks {
		if !shown[id] {
			o.absent[id] = true
		}
	}
}

func (o *own) alive(unit int) {
	if o.killed[unit] {
		o.miss("unit %d was disbanded and is still there", unit)
	}
	if o.absent[unit] {
		o.back("unit %d was left out of a read and is there again", unit)
		delete(o.absent, unit)
	}
}

// trades checks the list of open trades.
func (o *own) trades(list []trade) {
	shown := make(map[int]bool, len(list))
	for _, t := range list {
		id := int(t.ID)
		shown[id] = true
		if o.ended[id] {
			o.miss("trade %d was closed and is still open", id)
		}
		if o.offers[id] {
			o.back("trade %d was left out of a read and is there again", id)
			o.offers[id] = false
		}
	}
	for id := range o.offers {
		if !shown[id] {
			o.offers[id] = true
		}
	}
}

var unitRow = regexp.MustCompile(`<tr class="unit" data-id="(\d+)" data-province="(\d+)" data-target="(\d+)" data-hp="\d+" data-ref="([^"]*)">`)

// unitRows reads the units that a page shows.
func unitRows(body []byte) []unit {
	var list []unit
	for _, m := range unitRow.FindAllSubmatch(body, -1) {
		u := unit{ClientRef: string(m[4])}
		u.ID, _ = strconv.Atoi(string(m[1]))
		u.Province, _ = strconv.Atoi(string(m[2]))
		u.Target, _ = strconv.Atoi(string(m[3]))
		list = append(list, u)
	}
	return list
}
