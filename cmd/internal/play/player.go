package play

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// player is one person: a browser, what it saw last, and what it wrote and should see.
type player struct {
	d     *Driver
	s     *Session
	name  string
	rng   *rand.Rand
	index int
	wrote int // writes so far, for client_ref
	own   own

	units     []unit
	provinces []province
	others    []mapUnit
	trades    []trade
	failed    bool // the last request got no answer that makes sense
}

type unit struct {
	ID        int    `json:"id"`
	Province  int    `json:"province"`
	Target    int    `json:"target"`
	ClientRef string `json:"client_ref"`
}

type province struct {
	ID    number `json:"id"`
	Owner number `json:"owner_id"`
}

type mapUnit struct {
	ID       number `json:"id"`
	Player   number `json:"player_id"`
	Province number `json:"province_id"`
	Target   number `json:"target_id"`
}

type trade struct {
	ID     number `json:"id"`
	Seller number `json:"seller_id"`
}

func (d *Driver) newPlayer(i int, transport http.RoundTripper) (*player, error) {
	p := &player{d: d, index: i, name: fmt.Sprintf("p%d_%d", i%d.cfg.Matches+1, i/d.cfg.Matches+1), rng: rand.New(rand.NewPCG(d.cfg.Seed, uint64(i)+1))}
	p.own = newOwn(func(format string, args ...any) {
		d.count(func(t *tally) { t.miss(p.name+": "+format, args...) })
	}, func(format string, args ...any) {
		d.count(func(t *tally) { t.back(p.name+": "+format, args...) })
	})
	var err error
	p.s, err = NewSession(d.cfg.BaseURL, d.cfg.Host, transport, func(e Exchange) {
		p.failed = e.Err != nil || e.Refusal == "login"
		d.count(func(t *tally) { t.exchange(e) })
	})
	return p, err
}

// patience is the pause after an answer that did not come: the server may be starting.
const patience = 100 * time.Millisecond

// play goes on until the context ends. A request that was begun is ended, so that no
// write's outcome is unknown just because the run was over.
func (p *player) play(ctx context.Context) {
	in := false
	for p.d.pace.turn(ctx) == nil {
		request, done := context.WithTimeout(context.WithoutCancel(ctx), p.d.cfg.Timeout)
		if in {
			p.step(request)
		} else if p.s.Login(request, p.name, p.d.cfg.Password) == nil {
			in = true
			p.lookAround(request)
		}
		done()
		if p.failed {
			in = false // the session may be gone with the server
			if pause(ctx, patience) != nil {
				return
			}
		}
	}
}

func (p *player) lookAround(ctx context.Context) {
	p.pollMap(ctx)
	p.pollUnits(ctx)
	p.pollTrades(ctx)
}

// step is one thing that a player does. The weights are those of a player with a
// tab open: mostly polling, some looking, some orders.
func (p *player) step(ctx context.Context) {
	n := p.rng.IntN(100)
	for _, do := range [...]struct {
		weight int
		what   func(context.Context)
	}{
		{14, p.pollUnits}, {10, p.pollMap}, {8, p.pollResources}, {6, p.pollState}, {4, p.pollTrades}, {3, p.pollMessages},
		{20, p.look},
		{14, p.move}, {5, p.attack}, {3, p.orders}, {3, p.recruit}, {1, p.disband},
		{2, p.build}, {2, p.offer}, {2, p.accept}, {1, p.cancel}, {1, p.give},
		{1, p.send},
	} {
		if n -= do.weight; n < 0 {
			do.what(ctx)
			return
		}
	}
}

/* Looking. */

func (p *player) me() url.Values { return url.Values{"player": {strconv.Itoa(p.s.Player)}} }

func (p *player) pollUnits(ctx context.Context) {
	var out struct {
		Player int    `json:"player"`
		Units  []unit `json:"units"`
	}
	if p.s.Poll(ctx, "units", p.me(), &out) != nil {
		return
	}
	p.units = out.Units
	p.own.units(out.Units)
}

func (p *player) pollMap(ctx context.Context) {
	var out struct {
		Provinces []province `json:"provinces"`
		Units     []mapUnit  `json:"units"`
	}
	if p.s.Poll(ctx, "map", nil, &out) != nil {
		return
	}
	p.provinces, p.others = out.Provinces, out.Units
	p.own.mapUnits(out.Units)
}

func (p *player) pollTrades(ctx context.Context) {
	var out struct {
		Trades []trade `json:"trades"`
	}
	if p.s.Poll(ctx, "trades", nil, &out) != nil {
		return
	}
	p.trades = out.Trades
	p.own.trades(out.Trades)
}

func (p *player) pollResources(ctx context.Context) {
	var out struct {
		Gold, Wood, Iron *float64
	}
	_ = p.s.Poll(ctx, "resources", p.me(), &out)
}

func (p *player) pollState(ctx context.Context) {
	var out struct {
		Player struct{ ID number }
	}
	_ = p.s.Poll(ctx, "state", nil, &out)
}

func (p *player) pollMessages(ctx context.Context) {
	var out struct {
		Messages []struct {
			ID   number
			Body string
		}
	}
	_ = p.s.Poll(ctx, "messages", nil, &out)
}

// look at one of the pages.
func (p *player) look(ctx context.Context) {
	page := pick(p.rng, []string{"map", "map", "unit", "unit", "unit", "province", "province", "market", "messages", "ranking", "diplomacy"})
	var query url.Values
	if page == "province" {
		if len(p.provinces) == 0 {
			page = "map"
		} else {
			query = url.Values{"id": {strconv.Itoa(int(pick(p.rng, p.provinces).ID))}}
		}
	}
	a, err := p.s.Page(ctx, page, query)
	if err == nil && page == "unit" {
		p.own.units(unitRows(a.Body))
	}
}

/* Doing. */

// act does an action by form or JSON.
func (p *player) act(ctx context.Context, page, action string, fields map[string]int, words map[string]string) (r Result, ref string, outcome Outcome) {
	p.wrote++
	ref = fmt.Sprintf("%s-%d-%d", p.d.cfg.Run, p.index, p.wrote)
	var err error
	if p.rng.IntN(2) == 0 {
		form := url.Values{"client_ref": {ref}}
		for k, v := range fields {
			form.Set(k, strconv.Itoa(v))
		}
		for k, v := range words {
			form.Set(k, v)
		}
		r, err = p.s.Form(ctx, page, action, form)
	} else {
		in := map[string]any{"client_ref": ref}
		for k, v := range fields {
			in[k] = v
		}
		for k, v := range words {
			in[k] = v
		}
		r, err = p.s.JSON(ctx, action, in)
	}
	w := Write{Match: p.s.Match, Player: p.s.Player, Action: action, Ref: ref, Outcome: Done}
	switch {
	case err != nil:
		w.Outcome = Unknown
	case r.Refusal != "":
		w.Outcome = Refused
	default:
		p.d.count((*tally).wrote)
	}
	if p.d.cfg.Wrote != nil {
		p.d.cfg.Wrote(w)
	}
	return r, ref, w.Outcome
}

// onUnit does an action on an own unit, and expects to see its mark there.
func (p *player) onUnit(ctx context.Context, action string, u unit, fields map[string]int, words map[string]string) {
	all := map[string]int{"unit": u.ID}
	for k, v := range fields {
		all[k] = v
	}
	before := p.own.unsure(u.ID) // until the answer is there, and for ever if none comes
	r, ref, outcome := p.act(ctx, "unit", action, all, words)
	switch {
	case outcome == Refused:
		p.own.restore(u.ID, before)
	case outcome == Done && action == "disband":
		p.own.gone(u.ID)
	case outcome == Done:
		p.own.marked(u.ID, mark{ref: ref, to: fields["to"]})
	}
	if outcome == Done && len(r.Page.Body) > 0 {
		p.own.someUnits(unitRows(r.Page.Body))
	}
}

func (p *player) idle() (unit, bool) {
	var idle []unit
	for _, u := range p.units {
		if u.Target == 0 {
			idle = append(idle, u)
		}
	}
	if len(idle) == 0 {
		return unit{}, false
	}
	return pick(p.rng, idle), true
}

func (p *player) move(ctx context.Context) {
	if u, ok := p.idle(); ok && len(p.provinces) > 0 {
		p.onUnit(ctx, "move", u, map[string]int{"to": int(pick(p.rng, p.provinces).ID)}, nil)
		return
	}
	p.pollUnits(ctx)
}

func (p *player) attack(ctx context.Context) {
	for _, u := range p.units {
		for _, t := range p.others {
			if u.Target == 0 && t.Target == 0 && int(t.Province) == u.Province && int(t.Player) != p.s.Player {
				p.onUnit(ctx, "attack", u, map[string]int{"target": int(t.ID)}, nil)
				p.pollMap(ctx)
				return
			}
		}
	}
	p.pollMap(ctx)
}

func (p *player) orders(ctx context.Context) {
	if u, ok := p.idle(); ok {
		p.onUnit(ctx, "orders", u, nil, map[string]string{"stance": pick(p.rng, []string{"hold", "attack", "flee"})})
	}
}

func (p *player) disband(ctx context.Context) {
	if u, ok := p.idle(); ok && len(p.units) > 5 {
		p.onUnit(ctx, "disband", u, nil, nil)
		p.pollUnits(ctx)
	}
}

func (p *player) home() (int, bool) {
	for _, v := range p.provinces {
		if int(v.Owner) == p.s.Player {
			return int(v.ID), true
		}
	}
	return 0, false
}

func (p *player) recruit(ctx context.Context) {
	if at, ok := p.home(); ok {
		r, ref, outcome := p.act(ctx, "unit", "recruit", map[string]int{"province": at}, map[string]string{"type": pick(p.rng, []string{"scout", "scout", "spear", "knight", "siege"})})
		if outcome == Done {
			p.own.marked(r.ID, mark{ref: ref})
			p.pollUnits(ctx)
		}
	}
}

func (p *player) build(ctx context.Context) {
	if at, ok := p.home(); ok {
		p.act(ctx, "province", "build", map[string]int{"province": at}, nil)
	}
}

func (p *player) offer(ctx context.Context) {
	goods := []string{"gold", "wood", "iron"}
	p.rng.Shuffle(len(goods), func(i, j int) { goods[i], goods[j] = goods[j], goods[i] })
	r, _, outcome := p.act(ctx, "market", "offer", map[string]int{"give_amount": 1 + p.rng.IntN(20), "want_amount": 1 + p.rng.IntN(20)},
		map[string]string{"give_type": goods[0], "want_type": goods[1]})
	if outcome == Done {
		p.own.offered(r.ID)
		p.pollTrades(ctx)
	}
}

// deal does something with somebody else's offer, or with one of the player's own.
func (p *player) deal(ctx context.Context, action string, mine bool) {
	p.pollTrades(ctx)
	for _, t := range p.trades {
		if (int(t.Seller) == p.s.Player) == mine {
			if _, _, outcome := p.act(ctx, "market", action, map[string]int{"trade": int(t.ID)}, nil); outcome == Done {
				p.own.closed(int(t.ID))
				p.pollTrades(ctx)
			}
			return
		}
	}
}

func (p *player) accept(ctx context.Context) { p.deal(ctx, "accept", false) }
func (p *player) cancel(ctx context.Context) { p.deal(ctx, "cancel", true) }

func (p *player) give(ctx context.Context) {
	if to, ok := p.somebody(); ok {
		p.act(ctx, "market", "give", map[string]int{"to": to, "amount": 1 + p.rng.IntN(5)}, map[string]string{"type": pick(p.rng, []string{"gold", "wood", "iron"})})
	}
}

func (p *player) send(ctx context.Context) {
	if to, ok := p.somebody(); ok {
		p.act(ctx, "messages", "send", map[string]int{"to": to}, map[string]string{"subject": "Grüße", "body": "Hold the line.\n" + p.name})
	}
}

func (p *player) somebody() (int, bool) {
	for range 5 {
		if len(p.others) == 0 {
			break
		}
		if id := int(pick(p.rng, p.others).Player); id != p.s.Player {
			return id, true
		}
	}
	return 0, false
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }
