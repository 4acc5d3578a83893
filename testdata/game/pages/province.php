<?php
$p = get_province(input('id'));
if (!$p || $p['match_id'] != $player['match_id']) {
	error_page('province', 'noprovince');
	exit;
}
tick_resources($player['id']); // so that the numbers at the top are right
page_header('province', $p['name']);
$owner = player_label($p['owner_id']);
echo '<div id="province" data-id="' . $p['id'] . '" data-owner="' . $p['owner_id'] . '" data-level="' . $p['level'] . '">Level <b>' . $p['level'] . '</b>, ' . $p['terrain'] . ', '
	. ($owner['name'] ? 'ruled by ' . h($owner['name']) : 'nobody rules here') . ', tax ' . ($p['tax'] == '' ? 10 : (int)$p['tax']) . "%</div>\n<ul>\n";
foreach (db_rows("SELECT * FROM units WHERE province_id = " . (int)$p['id'] . " AND hp > 0 AND is_moving = 0 ORDER BY player_id, id") as $u) {
	$of = player_label($u['player_id']);
	echo '<li class="present" data-id="' . $u['id'] . '" data-player="' . $u['player_id'] . '">' . h($u['name']) . ' (' . h($of['name']) . ")</li>\n";
}
echo "</ul>\n";
if ($p['owner_id'] == $player['id']) {
	echo form_start('province', 'build') . '<input type="hidden" name="province" value="' . $p['id'] . '"><input type="submit" value="Build level ' . ($p['level'] + 1) . '"></form>' . "\n";
	echo form_start('unit', 'recruit') . '<input type="hidden" name="province" value="' . $p['id'] . '">' . select('type', array_keys($unit_types)) . ' <input type="submit" value="Recruit"></form>' . "\n";
}
page_footer();
