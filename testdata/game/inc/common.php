<?php
$inc = dirname(__FILE__);
require_once $inc . '/config.php';
require_once $inc . '/db.php';
require_once $inc . '/functions.php';
require_once $inc . '/session.php';
require_once $inc . '/battle.php';
require_once $inc . '/actions.php';
require_once $inc . '/template.php';
db_connect();
