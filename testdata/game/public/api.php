<?php
// for the scripts in the pages (2013) and the phone app (2015)
define('IN_API', 1);
require_once dirname(__FILE__) . '/../inc/common.php';
start_session();

function answer($data) {
	header('Content-Type: application/json');
	header('Cache-Control: no-store');
	echo json_encode($data);
	exit;
}

function fail($code) {
	answer(array('ok' => false, 'error' => $code));
}

$in = $_GET;
if ($_SERVER['REQUEST_METHOD'] == 'POST') {
	$in = json_decode(file_get_contents('php://input'), true);
	if (!is_array($in)) fail('badjson');
}
if (!$player) fail('login');
if (val($in, 'match') != '' && val($in, 'match') != $player['match_id']) fail('match');
$action = val($in, 'action');
$match_id = (int)$player['match_id'];

if ($_SERVER['REQUEST_METHOD'] == 'POST') {
	$done = do_action($action, $player, $in);
	if (isset($done['refuse'])) fail($done['refuse']);
	if (isset($done['err'])) fail($done['err']);
	if (isset($done['preview'])) answer(array('ok' => true, 'preview' => $done['preview']));
	$out = array('ok' => true, 'msg' => $done['msg']);
	if (isset($done['id'])) $out['id'] = (int)$done['id'];
	if (isset($done['battle'])) $out['battle'] = (int)$done['battle'];
	$out['server_time'] = time();
	answer($out);
}

switch ($action) {
case 'state':
	$m = db_row("SELECT id, name, status, speed FROM matches WHERE id = $match_id");
	$relations = array();
	foreach (db_rows("SELECT other_id, status FROM diplomacy WHERE player_id = " . (int)$player['id'] . " ORDER BY since") as $d) {
		$relations[$d['other_id']] = $d['status'];
	}
	answer(array(
		'ok' => true,
		'server_time' => time(),
		'match' => $m,
		'player' => array('id' => $player['id'], 'name' => $player['name'], 'score' => $player['score'], 'color' => $player['color'], 'premium_until' => $player['premium_until']),
		'relations' => $relations,
		'unread' => db_value("SELECT COUNT(*) FROM messages WHERE to_id = " . (int)$player['id'] . " AND is_read = 0"),
	));

case 'map':
	$provinces = db_rows("SELECT id, name, x, y, terrain, owner_id, level, is_capital FROM provinces WHERE match_id = $match_id ORDER BY y, x");
	foreach ($provinces as $i => $p) {
		$label = player_label($p['owner_id']);
		$provinces[$i]['owner'] = $label['name'];
		$provinces[$i]['color'] = $label['color'];
	}
	$units = db_rows("SELECT id, player_id, province_id, type, hp, target_id, arrives_at FROM units WHERE match_id = $match_id AND hp > 0");
	answer(array('ok' => true, 'server_time' => time(), 'provinces' => $provinces, 'units' => $units));

case 'units':
	$of = val($in, 'player') != '' ? (int)val($in, 'player') : (int)$player['id'];
	$now = time();
	$units = array();
	foreach (db_rows("SELECT * FROM units WHERE match_id = $match_id AND player_id = $of AND hp > 0 ORDER BY id") as $u) {
		$orders = unserialize($u['orders']);
		$arrives = $u['is_moving'] ? strtotime($u['arrives_at']) : null;
		$units[] = array(
			'id' => (int)$u['id'], 'type' => $u['type'], 'name' => $u['name'], 'province' => (int)$u['province_id'], 'hp' => (int)$u['hp'], 'strength' => (int)$u['strength'],
			'experience' => unit_experience($u), 'target' => (int)$u['target_id'], 'arrives_at' => $arrives, 'arrives_in' => $arrives ? max(0, $arrives - $now) : 0,
			'stance' => $orders['stance'], 'client_ref' => $u['client_ref'],
		);
	}
	answer(array('ok' => true, 'server_time' => $now, 'player' => $of, 'units' => $units));

case 'resources':
	if (val($in, 'player') != '' && val($in, 'player') != $player['id']) fail('notyours');
	$r = tick_resources($player['id']);
	answer(array(
		'ok' => true,
		'server_time' => time(),
		'player_id' => (int)$player['id'],
		'gold' => round($r['gold'], 2), 'wood' => round($r['wood'], 2), 'iron' => round($r['iron'], 2),
		'rates' => array('gold' => (float)$r['gold_rate'], 'wood' => (float)$r['wood_rate'], 'iron' => (float)$r['iron_rate']),
		'storage' => (int)$r['storage'],
		'updated_at' => (int)$r['updated_at'],
	));

case 'trades':
	answer(array('ok' => true, 'server_time' => time(), 'trades' => db_rows("SELECT id, seller_id, give_type, give_amount, want_type, want_amount, expires_at FROM trades WHERE match_id = $match_id AND status = 0 ORDER BY id")));

case 'messages':
	$list = array();
	foreach (db_rows("SELECT * FROM messages WHERE to_id = " . (int)$player['id'] . " ORDER BY id DESC LIMIT 20") as $m) {
		$from = player_label($m['from_id']);
		$list[] = array('id' => (int)$m['id'], 'from' => (int)$m['from_id'], 'from_name' => $from['name'], 'subject' => $m['subject'], 'body' => $m['body'], 'is_read' => $m['is_read'], 'sent_at' => $m['sent_at']);
	}
	answer(array('ok' => true, 'server_time' => time(), 'unread' => (int)db_value("SELECT COUNT(*) FROM messages WHERE to_id = " . (int)$player['id'] . " AND is_read = 0"), 'messages' => $list));
}
fail('badaction');
