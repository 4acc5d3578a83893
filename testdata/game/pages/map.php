<?php
page_header('map', 'Map');
echo "<table id=\"map\">\n";
$y = null;
foreach (db_rows("SELECT * FROM provinces WHERE match_id = " . (int)$player['match_id'] . " ORDER BY y, x") as $p) {
	if ($p['y'] !== $y) {
		if ($y !== null) echo "</tr>\n";
		echo "<tr>\n";
		$y = $p['y'];
	}
	$owner = player_label($p['owner_id']);
	$units = db_value("SELECT COUNT(*) FROM units WHERE province_id = " . (int)$p['id'] . " AND hp > 0");
	echo '<td class="province" data-id="' . $p['id'] . '" data-owner="' . $p['owner_id'] . '" data-units="' . $units . '"'
		. ($owner['color'] ? ' style="background: #' . $owner['color'] . '"' : '') . '>'
		. '<a href="index.php?page=province&amp;match=' . $p['match_id'] . '&amp;id=' . $p['id'] . '">' . h($p['name']) . '</a>'
		. ($p['is_capital'] ? ' *' : '') . '<br>' . h($owner['name']) . '<br>' . $units . " units</td>\n";
}
if ($y !== null) echo "</tr>\n";
echo "</table>\n";
page_footer();
