<?php
// php seed.php [--schema] [--matches 6] [--players 40] [--provinces 60] [--units 400] [--seed 1] [--now UNIXTIME]
// Sizes are per match. Same options, same world.
if (PHP_SAPI != 'cli') die('no');
require_once dirname(__FILE__) . '/inc/common.php';

$opt = array('matches' => 6, 'players' => 40, 'provinces' => 60, 'units' => 400, 'seed' => 1, 'now' => time());
$with_schema = false;
for ($i = 1; $i < $argc; $i++) {
	$name = substr($argv[$i], 2);
	if ($argv[$i] == '--schema') {
		$with_schema = true;
	} elseif (substr($argv[$i], 0, 2) == '--' && isset($opt[$name]) && isset($argv[$i + 1]) && ctype_digit($argv[$i + 1])) {
		$opt[$name] = (int)$argv[++$i];
	} else {
		fwrite(STDERR, "seed.php: do not understand " . $argv[$i] . "\n");
		exit(2);
	}
}
if ($opt['players'] < 1 || $opt['matches'] < 1 || $opt['provinces'] < $opt['players']) {
	fwrite(STDERR, "seed.php: every player needs a province for the capital\n");
	exit(2);
}
mt_srand($opt['seed']);

if ($with_schema) {
	mysqli_multi_query($db, file_get_contents(dirname(__FILE__) . '/schema.sql'));
	do {
		if (mysqli_errno($db)) db_error(mysqli_error($db));
	} while (mysqli_more_results($db) && mysqli_next_result($db));
	if (mysqli_errno($db)) db_error(mysqli_error($db));
}

// rows wait here until there are enough for one INSERT
$pending = array();
function add($table, $columns, $row) {
	global $pending;
	$values = array();
	foreach ($row as $v) $values[] = is_string($v) ? "'" . esc($v) . "'" : $v;
	$pending[$table]['columns'] = $columns;
	$pending[$table]['rows'][] = '(' . implode(', ', $values) . ')';
	if (count($pending[$table]['rows']) >= 500) flush_table($table);
}
function flush_table($table) {
	global $pending;
	if (!empty($pending[$table]['rows'])) {
		db_query("INSERT INTO $table (" . $pending[$table]['columns'] . ") VALUES " . implode(', ', $pending[$table]['rows']));
	}
	$pending[$table]['rows'] = array();
}
function pick($list) {
	return $list[mt_rand(0, count($list) - 1)];
}

$syllables = array('Al', 'Bran', 'Cor', 'Dun', 'Els', 'Fal', 'Grün', 'Hal', 'Iv', 'Jor', 'Köln', 'Lor', 'Mühl', 'Nor', 'Ost', 'Präg', 'Rö', 'Sankt ', 'Tre', 'Wal');
$endings = array('burg', 'dorf', 'feld', 'heim', 'mark', 'stadt', 'tal', 'wick', 'haven', 'forêt');
$now = date('Y-m-d H:i:s', $opt['now']);
$password = password_hash_old('secret');

$next = array();
foreach (array('matches', 'players', 'provinces', 'units') as $table) {
	$next[$table] = 1 + (int)db_value("SELECT MAX(id) FROM $table");
}
$first_match = $next['matches'];

db_query('BEGIN');
for ($m = $first_match; $m < $first_match + $opt['matches']; $m++) {
	$width = (int)ceil(sqrt($opt['provinces']));
	$height = (int)ceil($opt['provinces'] / $width);
	add('matches', 'id, name, width, height, started_at', array($m, 'Match ' . $m . ' of ' . pick($syllables) . pick($endings), $width, $height, date('Y-m-d H:i:s', $opt['now'] - 86400 * mt_rand(2, 40))));

	$players = array();
	for ($i = 1; $i <= $opt['players']; $i++) {
		$id = $next['players']++;
		$players[] = $id;
		$settings = serialize(array('lang' => pick(array('de', 'en', 'fr')), 'sound' => mt_rand(0, 1) == 1, 'logins' => 0));
		add('players', 'id, match_id, name, email, password, color, score, settings, signature, premium_until, is_admin, is_npc, last_seen', array(
			$id, $m, 'p' . $m . '_' . $i, 'p' . $m . '_' . $i . '@example.org', $password, sprintf('%02x%02x%02x', mt_rand(120, 250), mt_rand(120, 250), mt_rand(120, 250)), mt_rand(0, 500), $settings,
			mt_rand(0, 3) ? '' : 'Grüße aus ' . pick($syllables) . pick($endings), mt_rand(0, 4) ? '' : (string)($opt['now'] + 86400 * mt_rand(1, 90)), $i == 1 ? 1 : 0, mt_rand(0, 19) ? 0 : 1, mt_rand(0, 2) ? $now : NO_DATE));
		add('resources', 'player_id, match_id, gold, wood, iron, gold_rate, wood_rate, iron_rate, updated_at', array(
			$id, $m, mt_rand(50000, 400000) / 100, mt_rand(50000, 400000) / 100, mt_rand(20000, 200000) / 100, mt_rand(10, 100) * 6, mt_rand(10, 80) * 6, mt_rand(5, 50) * 6, $opt['now']));
	}

	$owner_of = array();
	for ($i = 0; $i < $opt['provinces']; $i++) {
		$id = $next['provinces']++;
		$capital = $i < $opt['players'];
		$owner = $capital ? $players[$i] : (mt_rand(0, 2) ? pick($players) : 0);
		$owner_of[$id] = $owner;
		// capitals are spread over the map
		$cell = ($i * 7) % $opt['provinces'];
		if ($opt['provinces'] % 7 == 0) $cell = $i;
		$level = $capital ? mt_rand(1, 4) : ($owner ? mt_rand(0, 2) : 0);
		add('provinces', 'id, match_id, name, x, y, terrain, owner_id, level, tax, is_capital, built_at', array(
			$id, $m, pick($syllables) . pick($endings), $cell % $width, (int)($cell / $width), pick(array('plain', 'forest', 'hill')), $owner, $level,
			mt_rand(0, 3) ? '' : (string)mt_rand(0, 30), $capital ? 1 : 0, $level ? date('Y-m-d H:i:s', $opt['now'] - mt_rand(3600, 864000)) : NO_DATE));
	}

	$ids = array_keys($owner_of);
	$types = array_keys($unit_types);
	for ($i = 0; $i < $opt['units']; $i++) {
		// everybody has some, the rest goes where it goes
		$owner = $players[$i % count($players)];
		$home = mt_rand(0, 3) ? $ids[$i % count($players)] : pick($ids);
		$type = pick($types);
		add('units', 'id, match_id, player_id, province_id, type, name, hp, strength, experience, orders', array(
			$next['units']++, $m, $owner, $home, $type, ucfirst($type) . ' of ' . pick($syllables) . pick($endings), mt_rand(60, 100), $unit_types[$type]['strength'],
			mt_rand(0, 2) ? '' : (string)mt_rand(1, 300), serialize(array('stance' => pick(array('hold', 'attack', 'flee')), 'queue' => array()))));
	}

	// neighbours in the list made their peace, or not
	for ($i = 0; $i + 1 < count($players); $i += 3) {
		$status = pick(array('war', 'peace', 'alliance'));
		add('diplomacy', 'match_id, player_id, other_id, status, since', array($m, $players[$i], $players[$i + 1], $status, $now));
		add('diplomacy', 'match_id, player_id, other_id, status, since', array($m, $players[$i + 1], $players[$i], $status, $now));
	}
	for ($i = 0; $i < $opt['players'] / 2; $i++) {
		add('messages', 'match_id, from_id, to_id, subject, body, sent_at', array($m, pick($players), pick($players), 'Für ' . pick($syllables) . pick($endings), "Shall we share it?\nYours", $now));
		$give = mt_rand(0, 2);
		add('trades', 'match_id, seller_id, give_type, give_amount, want_type, want_amount, created_at, expires_at', array(
			$m, pick($players), $goods[$give], mt_rand(1, 20) * 5, $goods[($give + 1) % 3], mt_rand(1, 20) * 5, $now, date('Y-m-d H:i:s', $opt['now'] + TRADE_SECONDS)));
	}
}
foreach (array_keys($pending) as $table) flush_table($table);
db_query('COMMIT');
echo "seeded " . $opt['matches'] . " matches, first is $first_match\n";
