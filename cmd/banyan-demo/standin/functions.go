package standin

import (
	"math"
	"strconv"
)

/* ---- players ---- */

func (s *script) getPlayer(player string) row {
	return s.row("SELECT * FROM players WHERE id = " + id(player))
}

func (s *script) otherPlayer(player string) row {
	if p := s.getPlayer(player); p != nil && p["match_id"] == s.player["match_id"] {
		return p
	}
	return nil
}

func (d *db) atPeace(player, other string) bool {
	r := d.row("SELECT status FROM diplomacy WHERE player_id = " + id(player) + " AND other_id = " + id(other) + " ORDER BY since DESC LIMIT 1")
	return r["status"] == "peace" || r["status"] == "alliance"
}

// label is name and color of a player, asked for each time.
func (d *db) label(player string) row {
	if toInt(player) == 0 {
		return row{}
	}
	return d.row("SELECT name, color FROM players WHERE id = " + id(player))
}

// countView is for the "who is online" box.
func (s *script) countView() {
	s.exec("UPDATE players SET views = views + 1, last_seen = " + now + " WHERE id = " + id(s.player["id"]))
}

func (s *script) log(action, ref string) {
	s.exec("INSERT INTO action_log (match_id, player_id, action, client_ref) VALUES (" + id(s.player["match_id"]) + ", " + id(s.player["id"]) + ", " + quote(action) + ", " + quote(ref) + ")")
}

/* ---- resources ---- */

// purse is a row of resources with its stock as of now.
type purse struct {
	row
	stock map[string]float64
	now   int64
}

// purse reads and computes; nothing is written.
func (s *script) purse(player string) purse {
	r := s.row("SELECT * FROM resources WHERE player_id = " + id(player))
	p := purse{row: r, stock: map[string]float64{}, now: s.now()}
	for _, g := range goods {
		stock := r.float(g) + r.float(g+"_rate")*float64(p.now-r.int("updated_at"))/3600
		p.stock[g] = min(stock, r.float("storage"))
	}
	return p
}

// save writes absolute stocks, whatever became of them since they were read.
func (s *script) save(p purse) {
	s.exec("UPDATE resources SET gold = " + floatText(p.stock["gold"]) + ", wood = " + floatText(p.stock["wood"]) + ", iron = " + floatText(p.stock["iron"]) +
		", updated_at = " + strconv.FormatInt(p.now, 10) + " WHERE player_id = " + id(p.row["player_id"]))
}

// tick is production since last time.
func (s *script) tick(player string) purse {
	p := s.purse(player)
	s.save(p)
	return p
}

type cost map[string]float64

func (p purse) affords(c cost) bool {
	for _, g := range goods {
		if p.stock[g] < c[g] {
			return false
		}
	}
	return true
}

func (s *script) pay(player string, c cost) {
	p := s.purse(player)
	for _, g := range goods {
		if c[g] != 0 {
			p.stock[g] = max(0, p.stock[g]-c[g])
		}
	}
	s.save(p)
}

func (s *script) earn(player, good string, amount float64) {
	p := s.purse(player)
	p.stock[good] = min(p.row.float("storage"), p.stock[good]+amount)
	s.save(p)
}

// amountOf is what may be traded, 0 for anything else.
func amountOf(s string) float64 {
	if f, ok := numeric(s); ok && f > 0 && f <= 100000 {
		return f
	}
	return 0
}

/* ---- units ---- */

func (d *db) unit(unit string) row { return d.row("SELECT * FROM units WHERE id = " + id(unit)) }
func (d *db) province(province string) row {
	return d.row("SELECT * FROM provinces WHERE id = " + id(province))
}

// ownUnit is the unit of the request if it is the player's, or the refusal.
func (s *script) ownUnit(in fields) (row, string) {
	u := s.unit(in.val("unit"))
	switch {
	case u == nil || u["match_id"] != s.player["match_id"] || u.int("hp") <= 0:
		return nil, "nounit"
	case u["player_id"] != s.player["id"]:
		return nil, "notyours"
	}
	return u, ""
}

func (s *script) ownProvince(in fields) (row, string) {
	p := s.province(in.val("province"))
	switch {
	case p == nil || p["match_id"] != s.player["match_id"]:
		return nil, "noprovince"
	case p["owner_id"] != s.player["id"]:
		return nil, "notyours"
	}
	return p, ""
}

func distance(a, b row) float64 {
	x, y := a.float("x")-b.float("x"), a.float("y")-b.float("y")
	return math.Sqrt(x*x + y*y)
}

func (s *script) journeySeconds(unit, from, to row) int64 {
	speed := s.row("SELECT speed FROM matches WHERE id = " + id(unit["match_id"])).float("speed")
	return max(1, int64(math.Ceil(distance(from, to)*unitType(unit["type"]).pace/speed)))
}

// experience of a unit is ” before its first battle.
func experience(unit row) int64 { return toInt(unit["experience"]) }

// stanceOf is nil if the orders do not tell.
func stanceOf(unit row) any { return unserialize(unit["orders"]).get("stance") }
