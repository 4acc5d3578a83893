package standin

import (
	"time"
)

func (s *script) move(in fields, ref string) result {
	u, refuse := s.ownUnit(in)
	if refuse != "" {
		return result{refuse: refuse}
	}
	to := s.province(in.val("to"))
	if to == nil || to["match_id"] != s.player["match_id"] {
		return result{refuse: "noprovince"}
	}
	if u.int("is_moving") != 0 {
		return result{err: "moving", id: u["id"]}
	}
	if u["province_id"] == to["id"] {
		return result{err: "there", id: u["id"]}
	}
	from := s.province(u["province_id"])
	if distance(from, to) > maxDistance {
		return result{err: "far", id: u["id"]}
	}
	arrives := time.Unix(s.now()+s.journeySeconds(u, from, to), 0)
	s.exec("UPDATE units SET is_moving = 1, target_id = " + id(to["id"]) + ", arrives_at = " + sqlTime(arrives) + ", moved_at = " + now + ", client_ref = " + quote(ref) + " WHERE id = " + id(u["id"]))
	s.log("move", ref)
	return result{msg: "moved", id: u["id"]}
}

func (s *script) attack(in fields, ref string) result {
	u, refuse := s.ownUnit(in)
	if refuse != "" {
		return result{refuse: refuse}
	}
	t := s.unit(in.val("target"))
	no := func(code string) result { return result{err: code, id: u["id"]} }
	switch {
	case t == nil || t["match_id"] != s.player["match_id"] || t.int("hp") <= 0:
		return no("gone")
	case t["player_id"] == s.player["id"]:
		return no("own")
	case u.int("is_moving") != 0:
		return no("moving")
	case u["province_id"] != t["province_id"] || t.int("is_moving") != 0:
		return no("apart")
	case s.atPeace(s.player["id"], t["player_id"]):
		return no("friends")
	}
	battle := s.fight(u, t, ref)
	s.log("attack", ref)
	return result{msg: "attacked", id: u["id"], battle: battle}
}

func (s *script) recruit(in fields, ref string) result {
	p, refuse := s.ownProvince(in)
	if refuse != "" {
		return result{refuse: refuse}
	}
	k := unitType(in.val("type"))
	if k == nil {
		return result{refuse: "badtype"}
	}
	price := cost{"gold": k.gold, "wood": k.wood, "iron": k.iron}
	if !s.tick(s.player["id"]).affords(price) {
		return result{err: "poor"}
	}
	if toInt(s.count("SELECT COUNT(*) FROM units WHERE player_id = "+id(s.player["id"])+" AND hp > 0")) >= maxUnits {
		return result{err: "full"}
	}
	orders := array{{"stance", "hold"}, {"queue", array{}}}
	unit := s.insert("INSERT INTO units (match_id, player_id, province_id, type, name, hp, strength, orders, client_ref) VALUES (" +
		id(s.player["match_id"]) + ", " + id(s.player["id"]) + ", " + id(p["id"]) + ", " + quote(k.name) + ", " + quote(latin1(ucfirst(k.name)+" of "+p["name"], 40)) + ", 100, " +
		floatText(k.strength) + ", " + quote(serialize(orders)) + ", " + quote(ref) + ")")
	s.log("recruit", ref)
	s.pay(s.player["id"], price)
	return result{msg: "recruited", id: unit}
}

func (s *script) orders(in fields, ref string) result {
	u, refuse := s.ownUnit(in)
	if refuse != "" {
		return result{refuse: refuse}
	}
	stance := in.val("stance")
	if !oneOf(stances, stance) {
		return result{refuse: "badstance"}
	}
	orders := unserialize(u["orders"]).set("stance", stance)
	s.exec("UPDATE units SET orders = " + quote(serialize(orders)) + ", client_ref = " + quote(ref) + " WHERE id = " + id(u["id"]))
	s.log("orders", ref)
	return result{msg: "ordered", id: u["id"]}
}

func (s *script) disband(in fields, ref string) result {
	u, refuse := s.ownUnit(in)
	if refuse != "" {
		return result{refuse: refuse}
	}
	if u.int("is_moving") != 0 {
		return result{err: "moving", id: u["id"]}
	}
	s.exec("DELETE FROM units WHERE id = " + id(u["id"]))
	s.log("disband", ref)
	return result{msg: "disbanded"}
}
