<?php
// One round between two units. Dice are rolled for both.
function fight($attacker, $defender, $ref = '') {
	$attacker_loss = mt_rand(0, 10) + (int)($defender['strength'] / 2);
	$defender_loss = mt_rand(5, 15) + (int)$attacker['strength'];
	$orders = unserialize($defender['orders']);
	if ($orders['stance'] == 'flee') {
		$attacker_loss = (int)($attacker_loss / 2);
	}

	$attacker_hp = max(0, $attacker['hp'] - $attacker_loss);
	$defender_hp = max(0, $defender['hp'] - $defender_loss);
	$experience = unit_experience($attacker) + $defender_loss;

	db_query("UPDATE units SET hp = $defender_hp WHERE id = " . (int)$defender['id']);
	db_query("UPDATE units SET hp = $attacker_hp, experience = '$experience'" . ($ref != '' ? ", client_ref = '" . esc($ref) . "'" : '') . " WHERE id = " . (int)$attacker['id']);

	$report = serialize(array(
		'attacker' => array('name' => $attacker['name'], 'hp' => $attacker_hp, 'player' => (int)$attacker['player_id']),
		'defender' => array('name' => $defender['name'], 'hp' => $defender_hp, 'player' => (int)$defender['player_id']),
	));
	db_query("INSERT INTO battles (match_id, province_id, attacker_id, defender_id, attacker_loss, defender_loss, report, fought_at, client_ref) VALUES ("
		. (int)$attacker['match_id'] . ", " . (int)$defender['province_id'] . ", " . (int)$attacker['id'] . ", " . (int)$defender['id'] . ", "
		. "$attacker_loss, $defender_loss, '" . esc($report) . "', NOW(), '" . esc($ref) . "')");
	$battle = db_id();
	db_query("UPDATE players SET score = score + $defender_loss WHERE id = " . (int)$attacker['player_id']);
	return $battle;
}
