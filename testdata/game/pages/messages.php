<?php
$id = (int)input('id');
$open = null;
if ($id) {
	$open = db_row("SELECT * FROM messages WHERE id = $id AND to_id = " . (int)$player['id']);
	if ($open) db_query("UPDATE messages SET is_read = 1 WHERE id = $id");
}
page_header('messages', 'Messages');
if (isset($preview)) {
	echo '<div class="preview">To ' . h($preview['to']) . ': <b>' . h($preview['subject']) . '</b><br>' . nl2br(h($preview['body'])) . "</div>\n";
}
if ($open) {
	$from = player_label($open['from_id']);
	echo '<div id="message" data-id="' . $id . '">From ' . h($from['name']) . ': <b>' . h($open['subject']) . '</b><br>' . nl2br(h($open['body'])) . "</div>\n";
}
echo "<table id=\"messages\">\n";
foreach (db_rows("SELECT * FROM messages WHERE to_id = " . (int)$player['id'] . " ORDER BY id DESC LIMIT 50") as $m) {
	$from = player_label($m['from_id']);
	echo '<tr class="message" data-id="' . $m['id'] . '" data-read="' . $m['is_read'] . '"><td><a href="index.php?page=messages&amp;match=' . $m['match_id'] . '&amp;id=' . $m['id'] . '">' . h($m['subject']) . '</a></td><td>'
		. h($from['name']) . '</td><td>' . $m['sent_at'] . '</td><td><a href="index.php?page=messages&amp;action=delete&amp;match=' . $m['match_id'] . '&amp;message=' . $m['id'] . '&amp;token=' . $_SESSION['token'] . "\">burn</a></td></tr>\n";
}
echo "</table>\n";
echo form_start('messages', 'send') . 'To player <input name="to"> <input name="subject"><textarea name="body"></textarea> <input type="submit" name="preview" value="Preview"> <input type="submit" value="Send"></form>' . "\n";
page_footer();
