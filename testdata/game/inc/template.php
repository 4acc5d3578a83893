<?php
$messages_done = array(
	'welcome' => 'Welcome back, my lord.', 'bye' => 'Farewell.', 'moved' => 'The unit is on its way.', 'attacked' => 'The battle is fought.',
	'recruited' => 'A new unit stands ready.', 'ordered' => 'The orders are given.', 'disbanded' => 'The unit went home.', 'built' => 'The province has grown.',
	'offered' => 'Your offer hangs in the market.', 'accepted' => 'A good deal.', 'cancelled' => 'The offer is withdrawn.', 'given' => 'They will be grateful.',
	'declared' => 'The heralds are on their way.', 'sent' => 'The message is sent.', 'deleted' => 'The message is burned.',
);
$messages_error = array(
	'login' => 'Please log in.', 'password' => 'Wrong name or password.', 'token' => 'The form is too old, please reload.', 'match' => 'That is not your match.',
	'badaction' => 'Nobody knows how to do that.', 'nounit' => 'There is no such unit.', 'notyours' => 'That is not yours.', 'noprovince' => 'There is no such province.',
	'moving' => 'The unit is on a journey.', 'there' => 'The unit is already there.', 'far' => 'That is too far away.', 'gone' => 'Too late, it is gone.', 'own' => 'That is your own.',
	'apart' => 'They are not in the same place.', 'friends' => 'You are at peace.', 'poor' => 'You cannot pay that.', 'sellerpoor' => 'The seller cannot deliver.',
	'full' => 'You have too many already.', 'max' => 'It cannot grow any further.', 'badtype' => 'There is no such thing.', 'badamount' => 'That is no amount.',
	'badstance' => 'There is no such stance.', 'badstatus' => 'There is no such relation.', 'noplayer' => 'There is no such player.', 'notrade' => 'There is no such offer.',
	'empty' => 'Please write something.',
);

function page_header($page, $title) {
	global $player, $messages_done, $messages_error;
	header('Content-Type: text/html; charset=utf-8');
	echo "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>" . h($title) . " - Provinces &amp; Purses</title>\n<link rel=\"stylesheet\" href=\"style.css\">\n</head>\n";
	if ($player) {
		$m = $player['match_id'];
		echo '<body data-page="' . h($page) . '" data-match="' . $m . '" data-player="' . $player['id'] . "\">\n";
		echo "<div id=\"nav\">\n";
		foreach (array('map', 'unit', 'market', 'diplomacy', 'messages', 'ranking') as $p) {
			echo '<a href="index.php?page=' . $p . '&amp;match=' . $m . '">' . ucfirst($p) . "</a>\n";
		}
		$unread = db_value("SELECT COUNT(*) FROM messages WHERE to_id = " . (int)$player['id'] . " AND is_read = 0");
		if ($unread) echo '<span id="unread">' . $unread . "</span>\n";
		echo "<a href=\"index.php?page=login&amp;action=logout\">Log out</a>\n</div>\n";
		$r = current_resources($player['id']);
		echo '<div id="purse">Gold <b id="gold">' . floor($r['gold']) . '</b> Wood <b id="wood">' . floor($r['wood']) . '</b> Iron <b id="iron">' . floor($r['iron']) . "</b></div>\n";
		echo token_field() . "\n";
	} else {
		echo '<body data-page="' . h($page) . "\">\n";
	}
	$msg = input('msg');
	if (isset($messages_done[$msg])) {
		echo '<div class="msg">' . $messages_done[$msg] . "</div>\n";
	}
	$err = input('err');
	if (isset($messages_error[$err])) {
		echo '<div class="error" data-error="' . $err . '">' . $messages_error[$err] . "</div>\n";
	}
	echo '<h1>' . h($title) . "</h1>\n";
}

function page_footer() {
	echo "<div id=\"footer\">&copy; 2009-" . date('Y') . " Provinces &amp; Purses</div>\n</body>\n</html>\n";
}

function error_page($page, $code) {
	global $messages_error;
	page_header($page, 'Sorry');
	echo '<div class="error" data-error="' . h($code) . '">' . (isset($messages_error[$code]) ? $messages_error[$code] : h($code)) . "</div>\n";
	page_footer();
}

function token_field() {
	return '<input type="hidden" name="token" value="' . $_SESSION['token'] . '">';
}

function form_start($page, $action) {
	global $player;
	return '<form class="' . $action . '" method="post" action="index.php?page=' . $page . '&amp;action=' . $action . '">'
		. '<input type="hidden" name="match" value="' . $player['match_id'] . '"><input type="hidden" name="client_ref" value="">' . token_field();
}

function select($name, $options) {
	$s = '<select name="' . $name . '">';
	foreach ($options as $o) $s .= '<option>' . h($o) . '</option>';
	return $s . '</select>';
}
