<?php
function unit_row($u) {
	$orders = unserialize($u['orders']);
	return '<tr class="unit" data-id="' . $u['id'] . '" data-province="' . $u['province_id'] . '" data-target="' . $u['target_id'] . '" data-hp="' . $u['hp'] . '" data-ref="' . h($u['client_ref']) . '">'
		. '<td><a href="index.php?page=unit&amp;match=' . $u['match_id'] . '&amp;id=' . $u['id'] . '">' . h($u['name']) . '</a></td><td>' . $u['type'] . '</td><td>' . $u['hp'] . '</td><td>'
		. unit_experience($u) . '</td><td>' . $orders['stance'] . '</td><td>' . ($u['is_moving'] ? 'arrives ' . $u['arrives_at'] : '') . "</td></tr>\n";
}

page_header('unit', 'Units');
echo "<table id=\"units\">\n";
$id = (int)input('id');
if ($id) {
	$u = get_unit($id);
	if ($u && $u['player_id'] == $player['id'] && $u['hp'] > 0) {
		echo unit_row($u) . "</table>\n";
		echo form_start('unit', 'move') . '<input type="hidden" name="unit" value="' . $id . '">To province <input name="to"> <input type="submit" value="Move"></form>' . "\n";
		echo form_start('unit', 'attack') . '<input type="hidden" name="unit" value="' . $id . '"><select name="target">';
		foreach (db_rows("SELECT id, name FROM units WHERE province_id = " . (int)$u['province_id'] . " AND player_id <> " . (int)$player['id'] . " AND hp > 0 AND is_moving = 0") as $t) {
			echo '<option value="' . $t['id'] . '">' . h($t['name']) . '</option>';
		}
		echo '</select> <input type="submit" value="Attack"></form>' . "\n";
		echo form_start('unit', 'orders') . '<input type="hidden" name="unit" value="' . $id . '">' . select('stance', array('hold', 'attack', 'flee')) . ' <input type="submit" value="Give orders"></form>' . "\n";
		echo form_start('unit', 'disband') . '<input type="hidden" name="unit" value="' . $id . '"><input type="submit" value="Disband"></form>' . "\n";
	} else {
		echo "</table>\n<p>It is not there any more.</p>\n";
	}
} else {
	foreach (db_rows("SELECT * FROM units WHERE player_id = " . (int)$player['id'] . " AND hp > 0 ORDER BY id") as $u) {
		echo unit_row($u);
	}
	echo "</table>\n";
}
page_footer();
