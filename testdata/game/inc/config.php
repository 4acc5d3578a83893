<?php
// settings of this installation, from the environment since the move to the new hoster (2017)
function env($name, $default) {
	$v = getenv($name);
	if ($v === false && isset($_SERVER[$name])) {
		$v = $_SERVER[$name];
	}
	return $v === false || $v === '' ? $default : $v;
}

error_reporting(E_ALL & ~E_NOTICE & ~E_WARNING & ~E_DEPRECATED);
ini_set('display_errors', '0');
date_default_timezone_set('UTC');

$cfg = array(
	'db_host' => env('GAME_DB_HOST', '127.0.0.1'),
	'db_port' => (int)env('GAME_DB_PORT', 3306),
	'db_socket' => env('GAME_DB_SOCKET', ''),
	'db_user' => env('GAME_DB_USER', 'root'),
	'db_pass' => env('GAME_DB_PASS', ''),
	'db_name' => env('GAME_DB_NAME', 'game'),
	'annotate' => env('GAME_ANNOTATE', '1') != '0',
	'sessions' => env('GAME_SESSIONS', ''),
	'salt' => 'Kettenhemd',
);

$unit_types = array(
	'scout'  => array('gold' => 20,  'wood' => 10,  'iron' => 0,   'strength' => 4,  'pace' => 1),
	'spear'  => array('gold' => 40,  'wood' => 30,  'iron' => 10,  'strength' => 10, 'pace' => 2),
	'knight' => array('gold' => 120, 'wood' => 20,  'iron' => 60,  'strength' => 18, 'pace' => 1),
	'siege'  => array('gold' => 200, 'wood' => 150, 'iron' => 100, 'strength' => 25, 'pace' => 3),
);
$goods = array('gold', 'wood', 'iron');
$terrain_good = array('plain' => 'gold', 'forest' => 'wood', 'hill' => 'iron');

define('MAX_UNITS', 60);
define('MAX_OFFERS', 5);
define('MAX_LEVEL', 10);
define('MAX_DISTANCE', 12);
define('TRADE_SECONDS', 600);
define('NO_DATE', '0000-00-00 00:00:00');
