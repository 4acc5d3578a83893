package economy

import (
	"errors"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

func match() *Match {
	m := NewMatch()
	for p := range int64(3) {
		m.Purses[p+1] = Purse{Player: p + 1, Match: 1, Stock: [goods]float64{100, 100, 100}, Rate: [goods]float64{3600, 0, 0}, Storage: 200, UpdatedAt: 1000}
	}
	m.Trades[5] = Trade{ID: 5, Seller: 1, Give: Iron, GiveAmount: 30, Want: Gold, WantAmount: 75}
	m.Closed[4] = true
	m.Provinces[7] = Province{Owner: 1, Level: 0, Terrain: "hill"}
	return m
}

func TestProductionStopsAtTheStorage(t *testing.T) {
	p := match().Purses[1]
	if got := p.At(1010).Stock[Gold]; got != 110 {
		t.Error(got)
	}
	if got := p.At(5000).Stock[Gold]; got != 200 {
		t.Error(got)
	}
	if got := p.At(900); got != p {
		t.Error("time went back", got)
	}
}

// after applies what an order makes and gives the match.
func after(t interface{ Fatal(...any) }, m *Match, o Order, opt Options) *Match {
	events, err := m.Decide(o, opt)
	if err != nil {
		t.Fatal(o, err)
	}
	for _, e := range events {
		if err := m.Apply(e.Type, e.Version, e.Data); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestOrders(t *testing.T) {
	clock := func(players ...int64) Facts {
		f := Facts{Clock: map[int64]int64{}, Now: 1010}
		for _, p := range players {
			f.Clock[p] = 1010
		}
		return f
	}
	offer := clock(2)
	offer.Trade = 9
	params := map[string]string{"trade": "5", "province": "7", "type": "spear", "give_type": "wood", "give_amount": "10", "want_type": "gold", "want_amount": " 2e1"}
	gift := map[string]string{"to": "2", "type": "wood", "amount": "150"}
	small := map[string]string{"to": "2", "type": "wood", "amount": "40"}
	for name, c := range map[string]struct {
		order Order
		err   error                    // or
		want  map[int64][goods]float64 // of purses that changed
	}{
		"accept":                {Order{"accept", 2, params, clock(1, 2)}, nil, map[int64][goods]float64{1: {185, 100, 70}, 2: {35, 100, 130}}},
		"accept, player by row": {Order{"accept", 0, params, clock(1, 2)}, nil, map[int64][goods]float64{1: {185, 100, 70}, 2: {35, 100, 130}}},
		"accept one's own":      {Order{"accept", 1, params, clock(1)}, Refusal("own"), nil},
		"accept what is gone":   {Order{"accept", 2, map[string]string{"trade": "4"}, clock(2)}, Refusal("gone"), nil},
		"accept what is new":    {Order{"accept", 2, map[string]string{"trade": "6"}, clock(2)}, ErrUnknown, nil},
		"offer":                 {Order{"offer", 2, params, offer}, nil, map[int64][goods]float64{2: {110, 100, 100}}},
		"offer, player by row":  {Order{"offer", 0, params, offer}, nil, map[int64][goods]float64{2: {110, 100, 100}}},
		"cancel":                {Order{"cancel", 1, params, clock()}, nil, nil},
		"cancel another's":      {Order{"cancel", 2, params, clock()}, Refusal("notyours"), nil},
		"give":                  {Order{"give", 1, small, clock(1, 2)}, nil, map[int64][goods]float64{1: {110, 60, 100}, 2: {110, 140, 100}}},
		"give, player by row":   {Order{"give", 0, small, clock(1, 2)}, nil, map[int64][goods]float64{1: {110, 60, 100}, 2: {110, 140, 100}}},
		"give too much":         {Order{"give", 1, gift, clock(1, 2)}, Refusal("poor"), nil},
		"build":                 {Order{"build", 1, params, clock(1)}, nil, map[int64][goods]float64{1: {60, 50, 80}}},
		"build another's":       {Order{"build", 2, params, clock(2)}, Refusal("notyours"), nil},
		"recruit":               {Order{"recruit", 1, params, clock(1)}, nil, map[int64][goods]float64{1: {70, 70, 90}}},
	} {
		t.Run(name, func(t *testing.T) {
			m := match()
			if c.err != nil {
				if _, err := m.Decide(c.order, Options{}); !errors.Is(err, c.err) {
					t.Fatal(err)
				}
				return
			}
			after(t, m, c.order, Options{})
			for p, old := range match().Purses {
				want, ok := c.want[p]
				if !ok {
					want = old.Stock
				}
				if m.Purses[p].Stock != want {
					t.Errorf("player %d has %v, want %v", p, m.Purses[p].Stock, want)
				}
			}
		})
	}
	m := after(t, match(), Order{"build", 1, params, clock(1)}, Options{})
	if p := m.Provinces[7]; p.Level != 1 || m.Purses[1].Rate[Iron] != 6 {
		t.Error(p, m.Purses[1])
	}
	if tr := after(t, match(), Order{"offer", 2, params, offer}, Options{}).Trades[9]; tr != (Trade{9, 2, Wood, 10, Gold, 20}) {
		t.Error(tr)
	}
	for _, bad := range []string{"", "0", "-1", "x", "0x10", "inf", "1_0", "100001", "NaN"} {
		p := map[string]string{"give_type": "wood", "give_amount": bad, "want_type": "gold", "want_amount": "1"}
		if _, err := match().Decide(Order{"offer", 2, p, offer}, Options{}); !errors.Is(err, Refusal("badamount")) {
			t.Errorf("amount %q: %v", bad, err)
		}
	}
}

// A trade makes nothing and destroys nothing, unless a storage runs over; the planted defect does.
func TestATradeConserves(t *testing.T) {
	for _, bug := range []bool{false, true} {
		rapid.Check(t, func(t *rapid.T) {
			m := match()
			give, want := rapid.Float64Range(1, 50).Draw(t, "give"), rapid.Float64Range(1, 50).Draw(t, "want")
			m.Trades[5] = Trade{ID: 5, Seller: 1, Give: Good(rapid.IntRange(1, 2).Draw(t, "good")), GiveAmount: give, Want: Gold, WantAmount: want}
			good := m.Trades[5].Give
			before := m.Purses[1].Stock[good] + m.Purses[2].Stock[good]
			after(t, m, Order{"accept", 2, map[string]string{"trade": strconv.Itoa(5)}, Facts{}}, Options{Bug: bug})
			made := m.Purses[1].Stock[good] + m.Purses[2].Stock[good] - before
			expect := 0.0
			if bug && good == Iron {
				expect = want - give
			}
			if math.Abs(made-expect) > 1e-9 {
				t.Fatalf("%v of %s came out of nothing, want %v", made, good, expect)
			}
		})
	}
}

func FuzzApply(f *testing.F) {
	for _, typ := range []string{"game.resources.imported", "game.resources.adjusted", "game.trade.offered", "game.trade.changed", "game.province.built", "other"} {
		f.Add(typ, []byte(`{"player":1,"trade":2,"give_type":"gold","want_type":"wood","gold":1e300,"status":3,"province":7}`))
	}
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		_ = match().Apply(typ, 1, data) // must not panic, whatever comes
	})
}
