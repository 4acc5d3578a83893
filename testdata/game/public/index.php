<?php
require_once dirname(__FILE__) . '/../inc/common.php';
start_session();

$page = input('page', $player ? 'map' : 'login');
$action = input('action');

if ($page == 'login') {
	include '../pages/login.php';
	exit;
}
if (!$player) {
	header('Location: index.php?page=login&err=login');
	exit;
}
if (input('match', $player['match_id']) != $player['match_id']) {
	error_page('error', 'match');
	exit;
}
if (!in_array($page, array('map', 'unit', 'province', 'market', 'diplomacy', 'messages', 'ranking'))) {
	$page = 'map';
}

if ($action != '') {
	// the page in the URL does not have to fit, old bookmarks
	$home = isset($actions[$action]) ? $actions[$action] : $page;
	$done = do_action($action, $player, array_merge($_GET, $_POST));
	if (isset($done['refuse'])) {
		error_page($home, $done['refuse']);
		exit;
	}
	if (!isset($done['preview'])) {
		$url = 'index.php?page=' . $home . '&match=' . $player['match_id'];
		if (isset($done['id'])) $url .= '&id=' . $done['id'];
		if (isset($done['battle'])) $url .= '&battle=' . $done['battle'];
		$url .= isset($done['err']) ? '&err=' . $done['err'] : '&msg=' . $done['msg'];
		header('Location: ' . $url);
		exit;
	}
	$preview = $done['preview'];
	$page = $home;
}

count_view($player['id']);
include '../pages/' . $page . '.php';
