<?php
// every few seconds from the crontab of the game server: php cron.php [-v]
if (PHP_SAPI != 'cli') die('no');
require_once dirname(__FILE__) . '/inc/common.php';
$verbose = in_array('-v', $argv);
$n = array('arrived' => 0, 'battles' => 0, 'conquered' => 0, 'dead' => 0, 'expired' => 0);

foreach (db_rows("SELECT id FROM matches WHERE status = 1") as $m) {
	$match_id = (int)$m['id'];

	foreach (db_rows("SELECT * FROM units WHERE match_id = $match_id AND is_moving = 1 AND arrives_at <= NOW() ORDER BY arrives_at, id") as $u) {
		db_query("UPDATE units SET province_id = target_id, target_id = 0, is_moving = 0, arrives_at = '" . NO_DATE . "' WHERE id = " . (int)$u['id'] . " AND is_moving = 1");
		$n['arrived']++;

		// whoever is there and no friend is fought
		$enemies = db_rows("SELECT * FROM units WHERE province_id = " . (int)$u['target_id'] . " AND player_id <> " . (int)$u['player_id'] . " AND is_moving = 0 AND hp > 0 ORDER BY id");
		foreach ($enemies as $e) {
			if (at_peace($u['player_id'], $e['player_id'])) continue;
			$me = get_unit($u['id']);
			if (!$me || $me['hp'] <= 0) break;
			fight($me, $e);
			$n['battles']++;
		}

		$me = get_unit($u['id']);
		if (!$me || $me['hp'] <= 0) continue;
		$p = get_province($u['target_id']);
		if ($p['is_capital'] || $p['owner_id'] == $u['player_id']) continue;
		if ($p['owner_id'] && at_peace($u['player_id'], $p['owner_id'])) continue;
		$left = db_value("SELECT COUNT(*) FROM units WHERE province_id = " . (int)$p['id'] . " AND player_id <> " . (int)$u['player_id'] . " AND is_moving = 0 AND hp > 0");
		if ($left == 0) {
			db_query("UPDATE provinces SET owner_id = " . (int)$u['player_id'] . " WHERE id = " . (int)$p['id']);
			$n['conquered']++;
		}
	}

	foreach (db_rows("SELECT id FROM units WHERE match_id = $match_id AND hp <= 0") as $u) {
		db_query("DELETE FROM units WHERE id = " . (int)$u['id']);
		$n['dead']++;
	}
	foreach (db_rows("SELECT id FROM trades WHERE match_id = $match_id AND status = 0 AND expires_at < NOW()") as $t) {
		db_query("UPDATE trades SET status = 3 WHERE id = " . (int)$t['id']);
		$n['expired']++;
	}
	db_query("UPDATE matches SET last_cron = " . time() . " WHERE id = $match_id");
}
if ($verbose) {
	foreach ($n as $what => $count) echo "$what=$count ";
	echo "\n";
}
