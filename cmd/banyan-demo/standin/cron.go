package standin

import (
	"context"
	"fmt"
)

// Cron is what the game's crontab does every few seconds, past every proxy: arrivals and
// their battles, the dead, expired trades.
func (g *Game) Cron(ctx context.Context) error {
	err := g.connected(ctx, "", func(d *db) {
		for _, m := range d.query("SELECT id FROM matches WHERE status = 1") {
			g.cronMatch(d, id(m["id"]))
		}
	})
	if err != nil {
		return fmt.Errorf("stand-in: cron: %w", err)
	}
	return nil
}

func (g *Game) cronMatch(d *db, match string) {
	for _, u := range d.query("SELECT * FROM units WHERE match_id = " + match + " AND is_moving = 1 AND arrives_at <= localtimestamp ORDER BY arrives_at, id") {
		d.arrive(u)
	}
	for _, u := range d.query("SELECT id FROM units WHERE match_id = " + match + " AND hp <= 0") {
		d.exec("DELETE FROM units WHERE id = " + id(u["id"]))
	}
	for _, t := range d.query("SELECT id FROM trades WHERE match_id = " + match + " AND status = 0 AND expires_at < " + now) {
		d.exec("UPDATE trades SET status = 3 WHERE id = " + id(t["id"]))
	}
	d.exec("UPDATE matches SET last_cron = " + decimal(g.clock().Unix()) + " WHERE id = " + match)
}

// arrive puts a unit where it went. Whoever is there and no friend is fought, and a
// province that nobody is left to defend changes hands.
func (d *db) arrive(u row) {
	d.exec("UPDATE units SET province_id = target_id, target_id = 0, is_moving = 0, arrives_at = NULL WHERE id = " + id(u["id"]) + " AND is_moving = 1")
	others := " AND player_id <> " + id(u["player_id"]) + " AND is_moving = 0 AND hp > 0"
	for _, enemy := range d.query("SELECT * FROM units WHERE province_id = " + id(u["target_id"]) + others + " ORDER BY id") {
		if d.atPeace(u["player_id"], enemy["player_id"]) {
			continue
		}
		me := d.unit(u["id"])
		if me == nil || me.int("hp") <= 0 {
			break
		}
		d.fight(me, enemy, "")
	}

	if me := d.unit(u["id"]); me == nil || me.int("hp") <= 0 {
		return
	}
	p := d.province(u["target_id"])
	if p == nil || p.int("is_capital") != 0 || p["owner_id"] == u["player_id"] {
		return
	}
	if p.int("owner_id") != 0 && d.atPeace(u["player_id"], p["owner_id"]) {
		return
	}
	if toInt(d.count("SELECT COUNT(*) FROM units WHERE province_id = "+id(p["id"])+others)) == 0 {
		d.exec("UPDATE provinces SET owner_id = " + id(u["player_id"]) + " WHERE id = " + id(p["id"]))
	}
}
