package standin

import (
	"time"
)

func (s *script) build(in fields, ref string) result {
	p, refuse := s.ownProvince(in)
	if refuse != "" {
		return result{refuse: refuse}
	}
	if p.int("level") >= maxLevel {
		return result{err: "max", id: p["id"]}
	}
	level := p.int("level") + 1
	price := cost{"gold": 50 * float64(level), "wood": 50 * float64(level), "iron": 20 * float64(level)}
	if !s.tick(s.player["id"]).affords(price) {
		return result{err: "poor", id: p["id"]}
	}
	s.exec("UPDATE provinces SET level = " + decimal(level) + ", built_at = " + now + ", client_ref = " + quote(ref) + " WHERE id = " + id(p["id"]))
	s.log("build", ref)
	s.pay(s.player["id"], price)
	rate := terrainGood[p["terrain"]] + "_rate"
	s.exec("UPDATE resources SET " + rate + " = " + rate + " + 6 WHERE player_id = " + id(s.player["id"]))
	return result{msg: "built", id: p["id"]}
}

func (s *script) offer(in fields, ref string) result {
	give, want := in.val("give_type"), in.val("want_type")
	if !oneOf(goods, give) || !oneOf(goods, want) || give == want {
		return result{refuse: "badtype"}
	}
	giveAmount, wantAmount := amountOf(in.val("give_amount")), amountOf(in.val("want_amount"))
	if giveAmount == 0 || wantAmount == 0 {
		return result{refuse: "badamount"}
	}
	if !s.tick(s.player["id"]).affords(cost{give: giveAmount}) {
		return result{err: "poor"}
	}
	if toInt(s.count("SELECT COUNT(*) FROM trades WHERE seller_id = "+id(s.player["id"])+" AND status = 0")) >= maxOffers {
		return result{err: "full"}
	}
	// Nothing is put aside: the seller pays when somebody accepts.
	trade := s.insert("INSERT INTO trades (match_id, seller_id, give_type, give_amount, want_type, want_amount, created_at, expires_at, client_ref) VALUES (" +
		id(s.player["match_id"]) + ", " + id(s.player["id"]) + ", " + quote(give) + ", " + floatText(giveAmount) + ", " + quote(want) + ", " + floatText(wantAmount) + ", " +
		now + ", " + sqlTime(time.Unix(s.now(), 0).Add(tradeTime)) + ", " + quote(ref) + ")")
	s.log("offer", ref)
	return result{msg: "offered", id: trade}
}

// trade is the trade of the request if it is in the player's match.
func (s *script) trade(in fields) row {
	if t := s.row("SELECT * FROM trades WHERE id = " + id(in.val("trade"))); t != nil && t["match_id"] == s.player["match_id"] {
		return t
	}
	return nil
}

func (s *script) accept(in fields, ref string) result {
	t := s.trade(in)
	if t == nil {
		return result{refuse: "notrade"}
	}
	if t.int("status") != 0 {
		return result{err: "gone", id: t["id"]}
	}
	me, seller := s.player["id"], t["seller_id"]
	if seller == me {
		return result{err: "own", id: t["id"]}
	}
	wanted, given := t.float("want_amount"), t.float("give_amount")
	if !s.tick(me).affords(cost{t["want_type"]: wanted}) {
		return result{err: "poor", id: t["id"]}
	}
	if !s.tick(seller).affords(cost{t["give_type"]: given}) {
		return result{err: "sellerpoor", id: t["id"]}
	}
	s.pay(me, cost{t["want_type"]: wanted})
	s.earn(me, t["give_type"], given)
	s.pay(seller, cost{t["give_type"]: given})
	s.earn(seller, t["want_type"], wanted)
	s.exec("UPDATE trades SET status = 1, buyer_id = " + id(me) + ", accepted_at = " + now + ", client_ref = " + quote(ref) + " WHERE id = " + id(t["id"]))
	s.log("accept", ref)
	return result{msg: "accepted"}
}

func (s *script) cancel(in fields, ref string) result {
	t := s.trade(in)
	switch {
	case t == nil:
		return result{refuse: "notrade"}
	case t["seller_id"] != s.player["id"]:
		return result{refuse: "notyours"}
	case t.int("status") != 0:
		return result{err: "gone", id: t["id"]}
	}
	s.exec("UPDATE trades SET status = 2, client_ref = " + quote(ref) + " WHERE id = " + id(t["id"]))
	s.log("cancel", ref)
	return result{msg: "cancelled"}
}

func (s *script) give(in fields, ref string) result {
	to := s.otherPlayer(in.val("to"))
	if to == nil {
		return result{refuse: "noplayer"}
	}
	good := in.val("type")
	if !oneOf(goods, good) {
		return result{refuse: "badtype"}
	}
	amount := amountOf(in.val("amount"))
	if amount == 0 {
		return result{refuse: "badamount"}
	}
	if to["id"] == s.player["id"] {
		return result{err: "own"}
	}
	if !s.tick(s.player["id"]).affords(cost{good: amount}) {
		return result{err: "poor"}
	}
	s.pay(s.player["id"], cost{good: amount})
	s.earn(to["id"], good, amount)
	s.log("give", ref)
	return result{msg: "given"}
}
