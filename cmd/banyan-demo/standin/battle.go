package standin

import (
	"math/rand/v2"
	"strconv"
)

// fight is one round between two units. Dice are rolled for both. It gives the battle's id.
func (d *db) fight(attacker, defender row, ref string) string {
	attackerLoss := int64(rand.IntN(11)) + defender.int("strength")/2
	defenderLoss := int64(5+rand.IntN(11)) + attacker.int("strength")
	if stanceOf(defender) == "flee" {
		attackerLoss /= 2
	}
	attackerHP := max(0, attacker.int("hp")-attackerLoss)
	defenderHP := max(0, defender.int("hp")-defenderLoss)
	learned := strconv.FormatInt(experience(attacker)+defenderLoss, 10)

	d.exec("UPDATE units SET hp = " + decimal(defenderHP) + " WHERE id = " + id(defender["id"]))
	tag := ""
	if ref != "" {
		tag = ", client_ref = " + quote(ref)
	}
	d.exec("UPDATE units SET hp = " + decimal(attackerHP) + ", experience = " + quote(learned) + tag + " WHERE id = " + id(attacker["id"]))

	side := func(u row, hp int64) array {
		return array{{"name", u["name"]}, {"hp", hp}, {"player", u.int("player_id")}}
	}
	report := serialize(array{{"attacker", side(attacker, attackerHP)}, {"defender", side(defender, defenderHP)}})
	battle := d.insert("INSERT INTO battles (match_id, province_id, attacker_id, defender_id, attacker_loss, defender_loss, report, fought_at, client_ref) VALUES (" +
		id(attacker["match_id"]) + ", " + id(defender["province_id"]) + ", " + id(attacker["id"]) + ", " + id(defender["id"]) + ", " +
		decimal(attackerLoss) + ", " + decimal(defenderLoss) + ", " + quote(report) + ", " + now + ", " + quote(ref) + ")")
	d.exec("UPDATE players SET score = score + " + decimal(defenderLoss) + " WHERE id = " + id(attacker["player_id"]))
	return battle
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }
