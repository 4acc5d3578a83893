package standin

import (
	"time"
)

var polls = map[string]func(*script){
	"state": (*script).pollState, "map": (*script).pollMap, "units": (*script).pollUnits, "resources": (*script).pollResources,
	"trades": (*script).pollTrades, "messages": (*script).pollMessages,
}

// members are columns of a row as JSON members, all strings as PHP gets them.
func (r row) members(columns ...string) (o object) {
	for _, c := range columns {
		o = append(o, member{c, r[c]})
	}
	return o
}

func (s *script) ok(more ...member) { s.json(append(object{{"ok", true}}, more...)) }

func (s *script) unread() string {
	return s.count("SELECT COUNT(*) FROM messages WHERE to_id = " + id(s.player["id"]) + " AND is_read = 0")
}

func (s *script) pollState() {
	m := s.row("SELECT id, name, status, speed FROM matches WHERE id = " + id(s.player["match_id"]))
	var relations object
	for _, d := range s.query("SELECT other_id, status FROM diplomacy WHERE player_id = " + id(s.player["id"]) + " ORDER BY since") {
		relations = relations.with(d["other_id"], d["status"])
	}
	var shown any = relations
	if relations == nil {
		shown = []any{} // an empty array in PHP is a list
	}
	s.ok(member{"server_time", s.now()}, member{"match", m.members("id", "name", "status", "speed")},
		member{"player", s.player.members("id", "name", "score", "color", "premium_until")}, member{"relations", shown}, member{"unread", s.unread()})
}

// with replaces a member in its place, or adds it.
func (o object) with(name string, value any) object {
	for i, m := range o {
		if m.name == name {
			o[i].value = value
			return o
		}
	}
	return append(o, member{name, value})
}

func (s *script) pollMap() {
	match := id(s.player["match_id"])
	provinces := []any{}
	for _, p := range s.query("SELECT id, name, x, y, terrain, owner_id, level, is_capital FROM provinces WHERE match_id = " + match + " ORDER BY y, x") {
		label := s.label(p["owner_id"])
		provinces = append(provinces, append(p.members("id", "name", "x", "y", "terrain", "owner_id", "level", "is_capital"), member{"owner", label["name"]}, member{"color", label["color"]}))
	}
	units := []any{}
	for _, u := range s.query("SELECT id, player_id, province_id, type, hp, target_id, arrives_at FROM units WHERE match_id = " + match + " AND hp > 0") {
		units = append(units, u.members("id", "player_id", "province_id", "type", "hp", "target_id", "arrives_at"))
	}
	s.ok(member{"server_time", s.now()}, member{"provinces", provinces}, member{"units", units})
}

func (s *script) pollUnits() {
	of := s.player.int("id")
	if v, _ := s.url.Get("player"); v != "" {
		of = toInt(v)
	}
	now := s.now()
	units := []any{}
	for _, u := range s.query("SELECT * FROM units WHERE match_id = " + id(s.player["match_id"]) + " AND player_id = " + decimal(of) + " AND hp > 0 ORDER BY id") {
		var arrives any
		var in int64
		if u.int("is_moving") != 0 {
			at := unix(u["arrives_at"])
			arrives, in = at, max(0, at-now)
		}
		units = append(units, object{
			{"id", u.int("id")}, {"type", u["type"]}, {"name", u["name"]}, {"province", u.int("province_id")}, {"hp", u.int("hp")}, {"strength", u.int("strength")},
			{"experience", experience(u)}, {"target", u.int("target_id")}, {"arrives_at", arrives}, {"arrives_in", in}, {"stance", stanceOf(u)}, {"client_ref", u["client_ref"]},
		})
	}
	s.ok(member{"server_time", now}, member{"player", of}, member{"units", units})
}

// unix is strtotime() of a date in the database.
func unix(date string) int64 {
	t, err := time.Parse(time.DateTime, date)
	if err != nil {
		return 0
	}
	return t.Unix()
}

func (s *script) pollResources() {
	if v, _ := s.url.Get("player"); v != "" && !same(v, s.player["id"]) {
		s.json(object{{"ok", false}, {"error", "notyours"}})
		return
	}
	p := s.tick(s.player["id"])
	s.ok(member{"server_time", s.now()}, member{"player_id", s.player.int("id")},
		member{"gold", round2(p.stock["gold"])}, member{"wood", round2(p.stock["wood"])}, member{"iron", round2(p.stock["iron"])},
		member{"rates", object{{"gold", p.float("gold_rate")}, {"wood", p.float("wood_rate")}, {"iron", p.float("iron_rate")}}},
		member{"storage", p.int("storage")}, member{"updated_at", p.now})
}

func (s *script) pollTrades() {
	trades := []any{}
	for _, t := range s.query("SELECT id, seller_id, give_type, give_amount, want_type, want_amount, expires_at FROM trades WHERE match_id = " + id(s.player["match_id"]) + " AND status = 0 ORDER BY id") {
		trades = append(trades, t.members("id", "seller_id", "give_type", "give_amount", "want_type", "want_amount", "expires_at"))
	}
	s.ok(member{"server_time", s.now()}, member{"trades", trades})
}

func (s *script) pollMessages() {
	list := []any{}
	for _, m := range s.query("SELECT * FROM messages WHERE to_id = " + id(s.player["id"]) + " ORDER BY id DESC LIMIT 20") {
		from := s.label(m["from_id"])
		list = append(list, object{{"id", m.int("id")}, {"from", m.int("from_id")}, {"from_name", from["name"]}, {"subject", m["subject"]}, {"body", m["body"]}, {"is_read", m["is_read"]}, {"sent_at", m["sent_at"]}})
	}
	s.ok(member{"server_time", s.now()}, member{"unread", toInt(s.unread())}, member{"messages", list})
}
