<?php
page_header('market', 'Market');
echo "<table id=\"trades\">\n";
foreach (db_rows("SELECT * FROM trades WHERE match_id = " . (int)$player['match_id'] . " AND status = 0 ORDER BY id") as $t) {
	$seller = player_label($t['seller_id']);
	echo '<tr class="trade" data-id="' . $t['id'] . '" data-seller="' . $t['seller_id'] . '" data-give="' . $t['give_amount'] . ' ' . $t['give_type'] . '" data-want="' . $t['want_amount'] . ' ' . $t['want_type'] . '"><td>'
		. h($seller['name']) . '</td><td>gives ' . $t['give_amount'] . ' ' . $t['give_type'] . '</td><td>wants ' . $t['want_amount'] . ' ' . $t['want_type'] . '</td><td>';
	if ($t['seller_id'] == $player['id']) {
		echo '<a href="index.php?page=market&amp;action=cancel&amp;match=' . $t['match_id'] . '&amp;trade=' . $t['id'] . '&amp;token=' . $_SESSION['token'] . '">withdraw</a>';
	} else {
		echo form_start('market', 'accept') . '<input type="hidden" name="trade" value="' . $t['id'] . '"><input type="submit" value="Accept"></form>';
	}
	echo "</td></tr>\n";
}
echo "</table>\n";
echo form_start('market', 'offer') . 'I give <input name="give_amount"> ' . select('give_type', $goods) . ' for <input name="want_amount"> ' . select('want_type', $goods) . ' <input type="submit" value="Offer"></form>' . "\n";
echo form_start('market', 'give') . 'Send <input name="amount"> ' . select('type', $goods) . ' to player <input name="to"> <input type="submit" value="Send"></form>' . "\n";
page_footer();
