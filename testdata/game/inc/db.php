<?php
require_once dirname(__FILE__) . '/../../../legacyadapter/php/banyan.php';

mysqli_report(MYSQLI_REPORT_OFF);

function db_connect() {
	global $db, $cfg;
	$db = mysqli_init();
	$socket = $cfg['db_socket'] != '' ? $cfg['db_socket'] : null;
	$host = $socket ? 'localhost' : $cfg['db_host'];
	if (!@mysqli_real_connect($db, $host, $cfg['db_user'], $cfg['db_pass'], $cfg['db_name'], $cfg['db_port'], $socket)) {
		db_error(mysqli_connect_error());
	}
	db_query("SET NAMES utf8, sql_mode='', time_zone='+00:00'");
}

// all SQL goes through here
function db_query($sql) {
	global $db, $cfg;
	if ($cfg['annotate']) $sql = banyan_sql($sql);
	$res = mysqli_query($db, $sql);
	if ($res === false) {
		db_error(mysqli_error($db) . ' in ' . $sql);
	}
	return $res;
}

function db_error($text) {
	error_log('game: ' . $text);
	if (PHP_SAPI == 'cli') {
		fwrite(STDERR, $text . "\n");
		exit(1);
	}
	if (defined('IN_API')) {
		header('Content-Type: application/json');
		die('{"ok":false,"error":"database"}');
	}
	die('<h1>Sorry</h1><div class="error" data-error="database">The database has a problem. Please try again later.</div>');
}

function db_row($sql) {
	return mysqli_fetch_assoc(db_query($sql));
}

function db_rows($sql) {
	$rows = array();
	$res = db_query($sql);
	while ($row = mysqli_fetch_assoc($res)) {
		$rows[] = $row;
	}
	return $rows;
}

function db_value($sql) {
	$row = mysqli_fetch_row(db_query($sql));
	return $row ? $row[0] : null;
}

function db_id() {
	global $db;
	return mysqli_insert_id($db);
}

function esc($s) {
	global $db;
	return mysqli_real_escape_string($db, $s);
}
