<?php
// form first, then query
function input($name, $default = '') {
	if (isset($_POST[$name]) && !is_array($_POST[$name])) return $_POST[$name];
	if (isset($_GET[$name]) && !is_array($_GET[$name])) return $_GET[$name];
	return $default;
}

function h($s) {
	return htmlspecialchars($s, ENT_QUOTES, 'UTF-8');
}

function client_ref($in) {
	return substr(preg_replace('/[^A-Za-z0-9._-]/', '', isset($in['client_ref']) ? (string)$in['client_ref'] : ''), 0, 40);
}

function password_hash_old($password) {
	global $cfg;
	return md5($cfg['salt'] . $password);
}

/* ---- players ---- */

function get_player($id) {
	return db_row("SELECT * FROM players WHERE id = " . (int)$id);
}

function get_relation($player_id, $other_id) {
	$r = db_row("SELECT status FROM diplomacy WHERE player_id = " . (int)$player_id . " AND other_id = " . (int)$other_id . " ORDER BY since DESC LIMIT 1");
	return $r ? $r['status'] : '';
}

function at_peace($player_id, $other_id) {
	$status = get_relation($player_id, $other_id);
	return $status == 'peace' || $status == 'alliance';
}

// every page of the game, for the "who is online" box and the statistics
function count_view($player_id) {
	db_query("UPDATE players SET views = views + 1, last_seen = NOW() WHERE id = " . (int)$player_id);
}

function log_action($player, $action, $ref) {
	db_query("INSERT INTO action_log (match_id, player_id, action, client_ref) VALUES (" . (int)$player['match_id'] . ", " . (int)$player['id'] . ", '" . esc($action) . "', '" . esc($ref) . "')");
}

/* ---- resources ---- */

// stock as of now, nothing is written
function current_resources($player_id) {
	global $goods;
	$r = db_row("SELECT * FROM resources WHERE player_id = " . (int)$player_id);
	$now = time();
	foreach ($goods as $g) {
		$r[$g] = $r[$g] + $r[$g . '_rate'] * ($now - $r['updated_at']) / 3600;
		if ($r[$g] > $r['storage']) $r[$g] = $r['storage'];
	}
	$r['updated_at'] = $now;
	return $r;
}

function save_resources($r) {
	db_query("UPDATE resources SET gold = " . (float)$r['gold'] . ", wood = " . (float)$r['wood'] . ", iron = " . (float)$r['iron']
		. ", updated_at = " . (int)$r['updated_at'] . " WHERE player_id = " . (int)$r['player_id']);
}

// production since last time
function tick_resources($player_id) {
	$r = current_resources($player_id);
	save_resources($r);
	return $r;
}

function can_afford($r, $cost) {
	global $goods;
	foreach ($goods as $g) {
		if (isset($cost[$g]) && $r[$g] < $cost[$g]) return false;
	}
	return true;
}

function pay($player_id, $cost) {
	global $goods;
	$r = current_resources($player_id);
	foreach ($goods as $g) {
		if (isset($cost[$g])) $r[$g] = max(0, $r[$g] - $cost[$g]);
	}
	save_resources($r);
}

function earn($player_id, $good, $amount) {
	$r = current_resources($player_id);
	$r[$good] = min($r['storage'], $r[$good] + $amount);
	save_resources($r);
}

/* ---- units ---- */

function get_unit($id) {
	return db_row("SELECT * FROM units WHERE id = " . (int)$id);
}

function get_province($id) {
	return db_row("SELECT * FROM provinces WHERE id = " . (int)$id);
}

function distance($a, $b) {
	return sqrt(pow($a['x'] - $b['x'], 2) + pow($a['y'] - $b['y'], 2));
}

function journey_seconds($unit, $from, $to) {
	global $unit_types;
	$speed = db_value("SELECT speed FROM matches WHERE id = " . (int)$unit['match_id']);
	return max(1, (int)ceil(distance($from, $to) * $unit_types[$unit['type']]['pace'] / $speed));
}

function unit_experience($unit) {
	return $unit['experience'] == '' ? 0 : (int)$unit['experience'];
}

/* old name, still used by the map */
function player_label($id) {
	static $cache = array();
	if (!$id) return array('name' => '', 'color' => '');
	// the cache made renamed players look wrong, 2012
	// if (isset($cache[$id])) return $cache[$id];
	$cache[$id] = db_row("SELECT name, color FROM players WHERE id = " . (int)$id);
	return $cache[$id];
}
