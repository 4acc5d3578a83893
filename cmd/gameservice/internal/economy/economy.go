// Package economy is the service's own knowledge of purses, trades and buildings: what has happened, and what follows
// from an order. It is pure: no clock, no I/O.
//
// It promises: the same events give the same [Match], and [Match.Decide] on it the same events. Two things it takes from
// legacy, because only legacy can know them: the ids that its database gave, and its clock ([Facts]). Every other value
// is computed here; legacy's rows are never copied.
//
// It leaves to others: where events come from and go to (book, command), and what readers are shown (query). It fails with
// a [Refusal], which is an answer, and with an error for data that are not an event of ours.
package economy

import (
	"encoding/json"
	"fmt"
	"math"
)

// Rules of the game.
const (
	maxOffers    = 5
	maxLevel     = 10
	tradeSeconds = 600
	rateOfLevel  = 6 // per hour, of each level
)

// Good is what purses hold.
type Good int

// The goods.
const (
	Gold Good = iota
	Wood
	Iron
	goods
)

var goodNames = [goods]string{"gold", "wood", "iron"}

func (g Good) String() string { return goodNames[g] }

func parseGood(s string) (Good, bool) {
	for g, name := range goodNames {
		if name == s {
			return Good(g), true
		}
	}
	return 0, false
}

// Cost is an amount of each good.
type Cost [goods]float64

var unitCosts = map[string]Cost{"scout": {20, 10, 0}, "spear": {40, 30, 10}, "knight": {120, 20, 60}, "siege": {200, 150, 100}}

func levelCost(level int) Cost { n := float64(level); return Cost{50 * n, 50 * n, 20 * n} }

// produces is what a terrain yields.
var produces = map[string]Good{"plain": Gold, "forest": Wood, "hill": Iron}

// Purse is what a player has, at a time.
type Purse struct {
	Player, Match int64
	Stock         [goods]float64
	Rate          [goods]float64 // per hour
	Storage       int64
	UpdatedAt     int64 // unix time at which the stocks were so
}

// At is the purse at a later time: production goes on until the storage is full.
func (p Purse) At(now int64) Purse {
	if now <= p.UpdatedAt {
		return p
	}
	for g := range p.Stock {
		p.Stock[g] = math.Min(float64(p.Storage), p.Stock[g]+p.Rate[g]*float64(now-p.UpdatedAt)/3600)
	}
	p.UpdatedAt = now
	return p
}

func (p *Purse) affords(c Cost) bool {
	for g, n := range c {
		if p.Stock[g] < n {
			return false
		}
	}
	return true
}

func (p *Purse) pay(c Cost) {
	for g, n := range c {
		p.Stock[g] = math.Max(0, p.Stock[g]-n)
	}
}

func (p *Purse) earn(g Good, n float64) { p.Stock[g] = math.Min(float64(p.Storage), p.Stock[g]+n) }

// Trade is an open offer.
type Trade struct {
	ID, Seller int64
	Give       Good
	GiveAmount float64
	Want       Good
	WantAmount float64
}

// Province is what the economy knows of one.
type Province struct {
	Owner   int64
	Level   int
	Terrain string
}

// Match is all that happened in one match. Not safe for concurrent use.
type Match struct {
	Purses    map[int64]Purse // by player
	Trades    map[int64]Trade // open ones, by id
	Closed    map[int64]bool  // ids of trades that were open once
	Provinces map[int64]Province
}

// NewMatch is a match in which nothing has happened.
func NewMatch() *Match {
	return &Match{Purses: map[int64]Purse{}, Trades: map[int64]Trade{}, Closed: map[int64]bool{}, Provinces: map[int64]Province{}}
}

// PurseData is the data of game.resources.imported, .changed and .adjusted, and a row of the read model.
type PurseData struct {
	Player    int64   `json:"player"`
	Match     int64   `json:"match"`
	Gold      float64 `json:"gold"`
	Wood      float64 `json:"wood"`
	Iron      float64 `json:"iron"`
	GoldRate  float64 `json:"gold_rate"`
	WoodRate  float64 `json:"wood_rate"`
	IronRate  float64 `json:"iron_rate"`
	Storage   int64   `json:"storage"`
	UpdatedAt int64   `json:"updated_at"`
	Reason    string  `json:"reason,omitempty"` // of a change: the command
}

// Purse is the data as a purse.
func (d PurseData) Purse() Purse {
	return Purse{d.Player, d.Match, [goods]float64{d.Gold, d.Wood, d.Iron}, [goods]float64{d.GoldRate, d.WoodRate, d.IronRate}, d.Storage, d.UpdatedAt}
}

func dataOf(p Purse, reason string) PurseData {
	return PurseData{p.Player, p.Match, p.Stock[Gold], p.Stock[Wood], p.Stock[Iron], p.Rate[Gold], p.Rate[Wood], p.Rate[Iron], p.Storage, p.UpdatedAt, reason}
}

// TradeData is the data of the game.trade events, and a row of the read model; each has some of the fields.
type TradeData struct {
	Trade      int64   `json:"trade"`
	Match      int64   `json:"match,omitempty"`
	Seller     int64   `json:"seller,omitempty"`
	Buyer      int64   `json:"buyer,omitempty"`
	GiveType   string  `json:"give_type,omitempty"`
	GiveAmount float64 `json:"give_amount,omitempty"`
	WantType   string  `json:"want_type,omitempty"`
	WantAmount float64 `json:"want_amount,omitempty"`
	Status     int     `json:"status,omitempty"`
	ExpiresAt  string  `json:"expires_at,omitempty"`
}

// ProvinceData is the data of the game.province events; each has some of the fields.
type ProvinceData struct {
	ID       int64  `json:"id,omitempty"` // of imported
	Province int64  `json:"province,omitempty"`
	Match    int64  `json:"match,omitempty"`
	Player   int64  `json:"player,omitempty"`
	Owner    int64  `json:"owner,omitempty"`
	Level    int    `json:"level,omitempty"`
	Terrain  string `json:"terrain,omitempty"`
}

// Apply folds one event. Types that the economy does not know change nothing.
func (m *Match) Apply(typ string, version int, data []byte) error {
	if version != 1 {
		return fmt.Errorf("%s@%d: this service reads version 1", typ, version)
	}
	switch typ {
	case "game.resources.imported", "game.resources.changed", "game.resources.adjusted":
		var d PurseData
		if err := json.Unmarshal(data, &d); err != nil {
			return fmt.Errorf("%s: %w", typ, err)
		}
		m.purse(typ, d.Purse())
	case "game.trade.imported", "game.trade.offered", "game.trade.accepted", "game.trade.cancelled", "game.trade.changed":
		var d TradeData
		if err := json.Unmarshal(data, &d); err != nil {
			return fmt.Errorf("%s: %w", typ, err)
		}
		return m.trade(typ, d)
	case "game.province.imported", "game.province.built", "game.province.levelled", "game.province.conquered":
		var d ProvinceData
		if err := json.Unmarshal(data, &d); err != nil {
			return fmt.Errorf("%s: %w", typ, err)
		}
		m.province(typ, d)
	}
	return nil
}

func (m *Match) purse(typ string, d Purse) {
	if typ == "game.resources.adjusted" {
		p, ok := m.Purses[d.Player]
		if !ok {
			return // not imported yet
		}
		for g := range p.Stock {
			p.Stock[g] += d.Stock[g]
			p.Rate[g] += d.Rate[g]
		}
		p.Storage, p.UpdatedAt = p.Storage+d.Storage, d.UpdatedAt
		d = p
	}
	m.Purses[d.Player] = d
}

func (m *Match) trade(typ string, d TradeData) error {
	switch typ {
	case "game.trade.imported", "game.trade.offered":
		give, ok1 := parseGood(d.GiveType)
		want, ok2 := parseGood(d.WantType)
		if !ok1 || !ok2 {
			return fmt.Errorf("%s: trade %d of %q for %q", typ, d.Trade, d.GiveType, d.WantType)
		}
		if d.Status == 0 {
			m.Trades[d.Trade] = Trade{d.Trade, d.Seller, give, d.GiveAmount, want, d.WantAmount}
			return nil
		}
	case "game.trade.changed":
		if d.Status == 0 {
			return nil // reopened by hand: without its terms there is nothing to say; the comparison will
		}
	}
	delete(m.Trades, d.Trade)
	m.Closed[d.Trade] = true
	return nil
}

func (m *Match) province(typ string, d ProvinceData) {
	if typ == "game.province.imported" {
		m.Provinces[d.ID] = Province{d.Owner, d.Level, d.Terrain}
		return
	}
	p, ok := m.Provinces[d.Province]
	if !ok {
		return // not imported yet
	}
	if typ == "game.province.conquered" {
		p.Owner = d.Owner
	} else {
		p.Level = d.Level
	}
	m.Provinces[d.Province] = p
}
