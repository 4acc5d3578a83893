<?php
function start_session() {
	global $cfg, $player;
	if ($cfg['sessions'] != '') {
		session_save_path($cfg['sessions']);
	}
	session_name('PHPSESSID');
	session_start();
	if (!isset($_SESSION['token'])) {
		$_SESSION['token'] = md5(uniqid(mt_rand(), true));
	}
	$player = null;
	if (isset($_SESSION['player_id'])) {
		$player = get_player($_SESSION['player_id']);
	}
}

function token_ok($token) {
	return is_string($token) && $token != '' && $token == $_SESSION['token'];
}

// true, or why not
function login($name, $password, $token) {
	if (!token_ok($token)) return 'token';
	$p = db_row("SELECT * FROM players WHERE name = '" . esc($name) . "' AND password = '" . esc(password_hash_old($password)) . "'");
	if (!$p) return 'password';

	session_regenerate_id(true);
	$_SESSION['player_id'] = $p['id'];
	$_SESSION['match_id'] = $p['match_id'];
	setcookie('game_uid', $p['id'], time() + 86400 * 30, '/');

	$settings = unserialize($p['settings']);
	$settings['logins'] = isset($settings['logins']) ? $settings['logins'] + 1 : 1;
	db_query("UPDATE players SET settings = '" . esc(serialize($settings)) . "', last_seen = NOW() WHERE id = " . (int)$p['id']);
	return true;
}

function logout() {
	$_SESSION = array();
	setcookie('game_uid', '', 1, '/');
	session_destroy();
}
