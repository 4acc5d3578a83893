<?php
page_header('diplomacy', 'Diplomacy');
echo "<table id=\"relations\">\n";
foreach (db_rows("SELECT * FROM diplomacy WHERE player_id = " . (int)$player['id'] . " ORDER BY other_id") as $d) {
	$other = player_label($d['other_id']);
	echo '<tr class="relation" data-id="' . $d['other_id'] . '" data-status="' . $d['status'] . '"><td>' . h($other['name']) . '</td><td>' . $d['status'] . '</td><td>since ' . $d['since'] . "</td></tr>\n";
}
echo "</table>\n";
echo form_start('diplomacy', 'declare') . 'Player <input name="other"> ' . select('status', array('war', 'peace', 'alliance')) . ' <input type="submit" value="Declare"></form>' . "\n";
page_footer();
