package economy

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Order is what a player asked for.
type Order struct {
	Action string // offer, accept, cancel, give, build, recruit
	Player int64  // 0: not known; then the facts tell
	Params map[string]string
	Facts  Facts
}

// Facts are what only legacy knows.
type Facts struct {
	// Clock is legacy's clock when it last wrote a player's purse, by player. A purse that it did not write has not
	// been touched: no time passes for it.
	Clock map[int64]int64
	// Trade is the id that the database gave to a new trade.
	Trade int64
	// Now is legacy's clock when it made the new trade.
	Now int64
}

// Event is what happened, without its envelope.
type Event struct {
	Type    string
	Version int
	Subject string
	Data    json.RawMessage
}

// Refusal says that an order is against the rules; the code is the one that players are shown.
type Refusal string

func (r Refusal) Error() string { return "refused: " + string(r) }

// ErrUnknown says that the order speaks of something that has not been imported yet.
var ErrUnknown = errors.New("not imported yet")

// Options change the logic.
type Options struct {
	// Bug plants a defect, for demonstrations: a buyer of iron is credited with what it paid.
	Bug bool
	// Decided says that some of the order's events are published already: it is not judged again. What is missing
	// follows from what has not been changed yet.
	Decided bool
}

// Decide computes the events of an order. Each depends on its own subject and on terms that stay until the last one is
// folded, so that after a crash in the middle the missing ones come out as they would have. The error is a [Refusal],
// [ErrUnknown], or about the order.
func (m *Match) Decide(o Order, opt Options) ([]Event, error) {
	d := decision{m: m, o: o, opt: opt}
	var err error
	switch o.Action {
	case "offer":
		err = d.offer()
	case "accept":
		err = d.accept()
	case "cancel":
		err = d.cancel()
	case "give":
		err = d.give()
	case "build":
		err = d.build()
	case "recruit":
		err = d.recruit()
	default:
		return nil, fmt.Errorf("action %q is not known", o.Action)
	}
	if err != nil {
		return nil, err
	}
	return d.out, nil
}

type decision struct {
	m   *Match
	o   Order
	opt Options
	out []Event
}

func (d *decision) emit(typ, subject string, id int64, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		panic("economy: " + err.Error()) // a bug: our data are numbers and text
	}
	d.out = append(d.out, Event{Type: typ, Version: 1, Subject: subject + "/" + strconv.FormatInt(id, 10), Data: b})
}

// purse is a player's purse at legacy's clock.
func (d *decision) purse(player int64) (Purse, error) {
	p, ok := d.m.Purses[player]
	if !ok {
		return p, fmt.Errorf("purse of player %d: %w", player, ErrUnknown)
	}
	return p.At(d.o.Facts.Clock[player]), nil
}

func (d *decision) changed(p Purse) {
	if p != d.m.Purses[p.Player] {
		d.emit("game.resources.changed", "player", p.Player, dataOf(p, d.o.Action))
	}
}

// refuse is the answer to a broken rule; what was decided once is not judged again.
func (d *decision) refuse(broken bool, code string) error {
	if broken && !d.opt.Decided {
		return Refusal(code)
	}
	return nil
}

func (d *decision) id(name string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(d.o.Params[name]), 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s: %q is not an id", name, d.o.Params[name])
	}
	return n, nil
}

func (d *decision) amount(name string) (float64, error) {
	s := strings.TrimSpace(d.o.Params[name])
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.Trim(s, "0123456789.eE+-") != "" || !(n > 0 && n <= 100000) {
		return 0, Refusal("badamount")
	}
	return n, nil
}

// other is the player whose purse legacy touched, besides one that is known.
func (d *decision) other(known int64) int64 {
	for p := range d.o.Facts.Clock {
		if p != known {
			return p
		}
	}
	return 0
}

func (d *decision) offer() error {
	give, ok1 := parseGood(d.o.Params["give_type"])
	want, ok2 := parseGood(d.o.Params["want_type"])
	if !ok1 || !ok2 || give == want {
		return Refusal("badtype")
	}
	giveAmount, err := d.amount("give_amount")
	if err != nil {
		return err
	}
	wantAmount, err := d.amount("want_amount")
	if err != nil {
		return err
	}
	seller := d.o.Player
	if seller == 0 {
		seller = d.other(0)
	}
	p, err := d.purse(seller)
	if err != nil {
		return err
	}
	open := 0
	for _, t := range d.m.Trades {
		if t.Seller == seller {
			open++
		}
	}
	if d.o.Facts.Trade == 0 {
		return Refusal("poor") // legacy made none, though it said so
	}
	var cost Cost
	cost[give] = giveAmount
	if err := errors.Join(d.refuse(!p.affords(cost), "poor"), d.refuse(open >= maxOffers, "full")); err != nil {
		return err
	}
	d.changed(p)
	expires := time.Unix(d.o.Facts.Now+tradeSeconds, 0).UTC().Format(time.DateTime)
	d.emit("game.trade.offered", "trade", d.o.Facts.Trade, TradeData{Trade: d.o.Facts.Trade, Match: p.Match, Seller: seller, GiveType: give.String(), GiveAmount: float64(float32(giveAmount)),
		WantType: want.String(), WantAmount: float64(float32(wantAmount)), ExpiresAt: expires})
	return nil
}

// openTrade is the trade of the order; gone if it is over.
func (d *decision) openTrade() (Trade, error) {
	id, err := d.id("trade")
	if err != nil {
		return Trade{}, err
	}
	t, ok := d.m.Trades[id]
	switch {
	case ok:
		return t, nil
	case d.m.Closed[id]:
		return Trade{}, Refusal("gone")
	}
	return Trade{}, fmt.Errorf("trade %d: %w", id, ErrUnknown)
}

func (d *decision) accept() error {
	t, err := d.openTrade()
	if err != nil {
		return err
	}
	id := d.o.Player
	if id == 0 {
		id = d.other(t.Seller)
	}
	if id == t.Seller {
		return Refusal("own")
	}
	buyer, err := d.purse(id)
	if err != nil {
		return err
	}
	seller, err := d.purse(t.Seller)
	if err != nil {
		return err
	}
	var price, goodsSold Cost
	price[t.Want], goodsSold[t.Give] = t.WantAmount, t.GiveAmount
	if err := errors.Join(d.refuse(!buyer.affords(price), "poor"), d.refuse(!seller.affords(goodsSold), "sellerpoor")); err != nil {
		return err
	}
	received := t.GiveAmount
	if d.opt.Bug && t.Give == Iron {
		received = t.WantAmount
	}
	buyer.pay(price)
	buyer.earn(t.Give, received)
	seller.pay(goodsSold)
	seller.earn(t.Want, t.WantAmount)
	d.changed(buyer)
	d.changed(seller)
	// Last: until it is folded, the terms are known.
	d.emit("game.trade.accepted", "trade", t.ID, TradeData{Trade: t.ID, Match: buyer.Match, Buyer: id})
	return nil
}

func (d *decision) cancel() error {
	t, err := d.openTrade()
	if err != nil {
		return err
	}
	if d.o.Player != 0 && d.o.Player != t.Seller {
		return Refusal("notyours")
	}
	match := int64(0)
	if p, ok := d.m.Purses[t.Seller]; ok {
		match = p.Match
	}
	if match == 0 {
		return fmt.Errorf("purse of player %d: %w", t.Seller, ErrUnknown)
	}
	d.emit("game.trade.cancelled", "trade", t.ID, TradeData{Trade: t.ID, Match: match})
	return nil
}

func (d *decision) give() error {
	to, err := d.id("to")
	if err != nil {
		return err
	}
	g, ok := parseGood(d.o.Params["type"])
	if !ok {
		return Refusal("badtype")
	}
	n, err := d.amount("amount")
	if err != nil {
		return err
	}
	from := d.o.Player
	if from == 0 {
		from = d.other(to)
	}
	if from == to {
		return Refusal("own")
	}
	giver, err := d.purse(from)
	if err != nil {
		return err
	}
	taker, err := d.purse(to)
	if err != nil {
		return err
	}
	var cost Cost
	cost[g] = n
	if err := d.refuse(!giver.affords(cost), "poor"); err != nil {
		return err
	}
	giver.pay(cost)
	taker.earn(g, n)
	d.changed(giver)
	d.changed(taker)
	return nil
}

// ownProvince is the province of the order and its owner's purse.
func (d *decision) ownProvince() (int64, Province, Purse, error) {
	id, err := d.id("province")
	if err != nil {
		return 0, Province{}, Purse{}, err
	}
	p, ok := d.m.Provinces[id]
	if !ok {
		return 0, Province{}, Purse{}, fmt.Errorf("province %d: %w", id, ErrUnknown)
	}
	player := d.o.Player
	if player == 0 {
		player = p.Owner
	}
	if err := d.refuse(player != p.Owner, "notyours"); err != nil {
		return 0, Province{}, Purse{}, err
	}
	purse, err := d.purse(player)
	return id, p, purse, err
}

func (d *decision) build() error {
	id, p, purse, err := d.ownProvince()
	if err != nil {
		return err
	}
	level := p.Level + 1
	cost := levelCost(level)
	if err := errors.Join(d.refuse(p.Level >= maxLevel, "max"), d.refuse(!purse.affords(cost), "poor")); err != nil {
		return err
	}
	purse.pay(cost)
	purse.Rate[produces[p.Terrain]] += rateOfLevel
	d.changed(purse)
	d.emit("game.province.built", "province", id, ProvinceData{Province: id, Match: purse.Match, Player: purse.Player, Level: level})
	return nil
}

// recruit pays; the unit itself is another squad's.
func (d *decision) recruit() error {
	_, _, purse, err := d.ownProvince()
	if err != nil {
		return err
	}
	cost, ok := unitCosts[d.o.Params["type"]]
	if !ok {
		return Refusal("badtype")
	}
	if err := d.refuse(!purse.affords(cost), "poor"); err != nil {
		return err
	}
	purse.pay(cost)
	d.changed(purse)
	return nil
}

// Shown is a stock as players see it.
func Shown(stock float64) float64 { return math.Round(stock*100) / 100 }
