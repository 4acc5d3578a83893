<?php
/*
 * What players can do. Each function takes the player and what came in (form or JSON) and returns
 *   array('msg' => 'moved', 'id' => 5)    it was done
 *   array('err' => 'moving', 'id' => 5)   it was not, tell the player where he was
 *   array('refuse' => 'nounit')           nonsense came in, show an error page
 */
$actions = array(
	'move' => 'unit', 'attack' => 'unit', 'recruit' => 'unit', 'orders' => 'unit', 'disband' => 'unit',
	'build' => 'province',
	'offer' => 'market', 'accept' => 'market', 'cancel' => 'market', 'give' => 'market',
	'declare' => 'diplomacy',
	'send' => 'messages', 'delete' => 'messages',
);

function do_action($action, $player, $in) {
	global $actions;
	if (!isset($actions[$action])) return array('refuse' => 'badaction');
	if (!token_ok(isset($in['token']) ? $in['token'] : '')) return array('refuse' => 'token');
	$f = 'do_' . $action;
	return $f($player, $in, client_ref($in));
}

function val($in, $name) {
	return isset($in[$name]) && !is_array($in[$name]) ? (string)$in[$name] : '';
}

// the unit of the request if it is the player's, or the refusal
function own_unit($player, $in) {
	$u = get_unit(val($in, 'unit'));
	if (!$u || $u['match_id'] != $player['match_id'] || $u['hp'] <= 0) return array('refuse' => 'nounit');
	if ($u['player_id'] != $player['id']) return array('refuse' => 'notyours');
	return $u;
}

function own_province($player, $in) {
	$p = get_province(val($in, 'province'));
	if (!$p || $p['match_id'] != $player['match_id']) return array('refuse' => 'noprovince');
	if ($p['owner_id'] != $player['id']) return array('refuse' => 'notyours');
	return $p;
}

function other_player($player, $id) {
	$p = get_player($id);
	return $p && $p['match_id'] == $player['match_id'] ? $p : null;
}

/* ---- units ---- */

function do_move($player, $in, $ref) {
	$u = own_unit($player, $in);
	if (isset($u['refuse'])) return $u;
	$to = get_province(val($in, 'to'));
	if (!$to || $to['match_id'] != $player['match_id']) return array('refuse' => 'noprovince');
	if ($u['is_moving']) return array('err' => 'moving', 'id' => $u['id']);
	if ($u['province_id'] == $to['id']) return array('err' => 'there', 'id' => $u['id']);
	$from = get_province($u['province_id']);
	if (distance($from, $to) > MAX_DISTANCE) return array('err' => 'far', 'id' => $u['id']);

	$arrives = date('Y-m-d H:i:s', time() + journey_seconds($u, $from, $to));
	db_query("UPDATE units SET is_moving = 1, target_id = " . (int)$to['id'] . ", arrives_at = '$arrives', moved_at = NOW(), client_ref = '" . esc($ref) . "' WHERE id = " . (int)$u['id']);
	log_action($player, 'move', $ref);
	return array('msg' => 'moved', 'id' => $u['id']);
}

function do_attack($player, $in, $ref) {
	$u = own_unit($player, $in);
	if (isset($u['refuse'])) return $u;
	$t = get_unit(val($in, 'target'));
	if (!$t || $t['match_id'] != $player['match_id'] || $t['hp'] <= 0) return array('err' => 'gone', 'id' => $u['id']);
	if ($t['player_id'] == $player['id']) return array('err' => 'own', 'id' => $u['id']);
	if ($u['is_moving']) return array('err' => 'moving', 'id' => $u['id']);
	if ($u['province_id'] != $t['province_id'] || $t['is_moving']) return array('err' => 'apart', 'id' => $u['id']);
	if (at_peace($player['id'], $t['player_id'])) return array('err' => 'friends', 'id' => $u['id']);

	$battle = fight($u, $t, $ref);
	log_action($player, 'attack', $ref);
	return array('msg' => 'attacked', 'id' => $u['id'], 'battle' => $battle);
}

function do_recruit($player, $in, $ref) {
	global $unit_types;
	$p = own_province($player, $in);
	if (isset($p['refuse'])) return $p;
	$type = val($in, 'type');
	if (!isset($unit_types[$type])) return array('refuse' => 'badtype');
	$cost = $unit_types[$type];

	$r = tick_resources($player['id']);
	if (!can_afford($r, $cost)) return array('err' => 'poor');
	$have = db_value("SELECT COUNT(*) FROM units WHERE player_id = " . (int)$player['id'] . " AND hp > 0");
	if ($have >= MAX_UNITS) return array('err' => 'full');

	db_query("INSERT INTO units (match_id, player_id, province_id, type, name, hp, strength, orders, client_ref) VALUES ("
		. (int)$player['match_id'] . ", " . (int)$player['id'] . ", " . (int)$p['id'] . ", '" . esc($type) . "', '" . esc(ucfirst($type) . ' of ' . $p['name']) . "', 100, "
		. (int)$cost['strength'] . ", '" . esc(serialize(array('stance' => 'hold', 'queue' => array()))) . "', '" . esc($ref) . "')");
	$id = db_id();
	log_action($player, 'recruit', $ref);
	pay($player['id'], $cost);
	return array('msg' => 'recruited', 'id' => $id);
}

function do_orders($player, $in, $ref) {
	$u = own_unit($player, $in);
	if (isset($u['refuse'])) return $u;
	$stance = val($in, 'stance');
	if (!in_array($stance, array('hold', 'attack', 'flee'))) return array('refuse' => 'badstance');
	$orders = unserialize($u['orders']);
	$orders['stance'] = $stance;
	db_query("UPDATE units SET orders = '" . esc(serialize($orders)) . "', client_ref = '" . esc($ref) . "' WHERE id = " . (int)$u['id']);
	log_action($player, 'orders', $ref);
	return array('msg' => 'ordered', 'id' => $u['id']);
}

function do_disband($player, $in, $ref) {
	$u = own_unit($player, $in);
	if (isset($u['refuse'])) return $u;
	if ($u['is_moving']) return array('err' => 'moving', 'id' => $u['id']);
	db_query("DELETE FROM units WHERE id = " . (int)$u['id']);
	log_action($player, 'disband', $ref);
	return array('msg' => 'disbanded');
}

/* ---- economy ---- */

function do_build($player, $in, $ref) {
	global $terrain_good;
	$p = own_province($player, $in);
	if (isset($p['refuse'])) return $p;
	if ($p['level'] >= MAX_LEVEL) return array('err' => 'max', 'id' => $p['id']);
	$level = $p['level'] + 1;
	$cost = array('gold' => 50 * $level, 'wood' => 50 * $level, 'iron' => 20 * $level);

	$r = tick_resources($player['id']);
	if (!can_afford($r, $cost)) return array('err' => 'poor', 'id' => $p['id']);

	db_query("UPDATE provinces SET level = $level, built_at = NOW(), client_ref = '" . esc($ref) . "' WHERE id = " . (int)$p['id']);
	log_action($player, 'build', $ref);
	pay($player['id'], $cost);
	$rate = $terrain_good[$p['terrain']] . '_rate';
	db_query("UPDATE resources SET $rate = $rate + 6 WHERE player_id = " . (int)$player['id']);
	return array('msg' => 'built', 'id' => $p['id']);
}

function amount_of($s) {
	return is_numeric($s) && $s > 0 && $s <= 100000 ? (float)$s : 0;
}

function do_offer($player, $in, $ref) {
	global $goods;
	$give = val($in, 'give_type');
	$want = val($in, 'want_type');
	if (!in_array($give, $goods) || !in_array($want, $goods) || $give == $want) return array('refuse' => 'badtype');
	$give_amount = amount_of(val($in, 'give_amount'));
	$want_amount = amount_of(val($in, 'want_amount'));
	if (!$give_amount || !$want_amount) return array('refuse' => 'badamount');

	$r = tick_resources($player['id']);
	if (!can_afford($r, array($give => $give_amount))) return array('err' => 'poor');
	$open = db_value("SELECT COUNT(*) FROM trades WHERE seller_id = " . (int)$player['id'] . " AND status = 0");
	if ($open >= MAX_OFFERS) return array('err' => 'full');

	// nothing is put aside, the seller pays when somebody accepts
	db_query("INSERT INTO trades (match_id, seller_id, give_type, give_amount, want_type, want_amount, created_at, expires_at, client_ref) VALUES ("
		. (int)$player['match_id'] . ", " . (int)$player['id'] . ", '$give', $give_amount, '$want', $want_amount, NOW(), '" . date('Y-m-d H:i:s', time() + TRADE_SECONDS) . "', '" . esc($ref) . "')");
	$id = db_id();
	log_action($player, 'offer', $ref);
	return array('msg' => 'offered', 'id' => $id);
}

function get_trade($player, $in) {
	$t = db_row("SELECT * FROM trades WHERE id = " . (int)val($in, 'trade'));
	return $t && $t['match_id'] == $player['match_id'] ? $t : null;
}

function do_accept($player, $in, $ref) {
	$t = get_trade($player, $in);
	if (!$t) return array('refuse' => 'notrade');
	if ($t['status'] != 0) return array('err' => 'gone', 'id' => $t['id']);
	if ($t['seller_id'] == $player['id']) return array('err' => 'own', 'id' => $t['id']);

	$mine = tick_resources($player['id']);
	if (!can_afford($mine, array($t['want_type'] => $t['want_amount']))) return array('err' => 'poor', 'id' => $t['id']);
	$his = tick_resources($t['seller_id']);
	if (!can_afford($his, array($t['give_type'] => $t['give_amount']))) return array('err' => 'sellerpoor', 'id' => $t['id']);

	pay($player['id'], array($t['want_type'] => $t['want_amount']));
	earn($player['id'], $t['give_type'], $t['give_amount']);
	pay($t['seller_id'], array($t['give_type'] => $t['give_amount']));
	earn($t['seller_id'], $t['want_type'], $t['want_amount']);
	db_query("UPDATE trades SET status = 1, buyer_id = " . (int)$player['id'] . ", accepted_at = NOW(), client_ref = '" . esc($ref) . "' WHERE id = " . (int)$t['id']);
	log_action($player, 'accept', $ref);
	return array('msg' => 'accepted');
}

function do_cancel($player, $in, $ref) {
	$t = get_trade($player, $in);
	if (!$t) return array('refuse' => 'notrade');
	if ($t['seller_id'] != $player['id']) return array('refuse' => 'notyours');
	if ($t['status'] != 0) return array('err' => 'gone', 'id' => $t['id']);
	db_query("UPDATE trades SET status = 2, client_ref = '" . esc($ref) . "' WHERE id = " . (int)$t['id']);
	log_action($player, 'cancel', $ref);
	return array('msg' => 'cancelled');
}

function do_give($player, $in, $ref) {
	global $goods;
	$to = other_player($player, val($in, 'to'));
	if (!$to) return array('refuse' => 'noplayer');
	$type = val($in, 'type');
	if (!in_array($type, $goods)) return array('refuse' => 'badtype');
	$amount = amount_of(val($in, 'amount'));
	if (!$amount) return array('refuse' => 'badamount');
	if ($to['id'] == $player['id']) return array('err' => 'own');

	$r = tick_resources($player['id']);
	if (!can_afford($r, array($type => $amount))) return array('err' => 'poor');
	pay($player['id'], array($type => $amount));
	earn($to['id'], $type, $amount);
	log_action($player, 'give', $ref);
	return array('msg' => 'given');
}

/* ---- the others ---- */

function do_declare($player, $in, $ref) {
	$other = other_player($player, val($in, 'other'));
	if (!$other) return array('refuse' => 'noplayer');
	$status = val($in, 'status');
	if (!in_array($status, array('war', 'peace', 'alliance'))) return array('refuse' => 'badstatus');
	if ($other['id'] == $player['id']) return array('err' => 'own');
	foreach (array(array($player['id'], $other['id']), array($other['id'], $player['id'])) as $pair) {
		db_query("DELETE FROM diplomacy WHERE player_id = " . (int)$pair[0] . " AND other_id = " . (int)$pair[1]);
		db_query("INSERT INTO diplomacy (match_id, player_id, other_id, status, since, client_ref) VALUES (" . (int)$player['match_id'] . ", " . (int)$pair[0] . ", " . (int)$pair[1] . ", '" . esc($status) . "', NOW(), '" . esc($ref) . "')");
	}
	log_action($player, 'declare', $ref);
	return array('msg' => 'declared');
}

function do_send($player, $in, $ref) {
	$to = other_player($player, val($in, 'to'));
	if (!$to) return array('refuse' => 'noplayer');
	$subject = trim(val($in, 'subject'));
	$body = trim(val($in, 'body'));
	if ($subject == '' || $body == '') return array('refuse' => 'empty');
	if (isset($in['preview'])) return array('preview' => array('to' => $to['name'], 'subject' => $subject, 'body' => $body));
	db_query("INSERT INTO messages (match_id, from_id, to_id, subject, body, sent_at, client_ref) VALUES (" . (int)$player['match_id'] . ", " . (int)$player['id'] . ", " . (int)$to['id'] . ", '" . esc($subject) . "', '" . esc($body) . "', NOW(), '" . esc($ref) . "')");
	log_action($player, 'send', $ref);
	return array('msg' => 'sent');
}

function do_delete($player, $in, $ref) {
	$m = db_row("SELECT id FROM messages WHERE id = " . (int)val($in, 'message') . " AND to_id = " . (int)$player['id']);
	if (!$m) return array('err' => 'gone');
	db_query("DELETE FROM messages WHERE id = " . (int)$m['id']);
	log_action($player, 'delete', $ref);
	return array('msg' => 'deleted');
}
