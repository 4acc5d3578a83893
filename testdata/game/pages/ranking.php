<?php
page_header('ranking', 'Ranking');
echo "<table id=\"ranking\">\n";
$n = 0;
foreach (db_rows("SELECT id, name, score, is_npc FROM players WHERE match_id = " . (int)$player['match_id'] . " ORDER BY score DESC, id") as $p) {
	$n++;
	$provinces = db_value("SELECT COUNT(*) FROM provinces WHERE owner_id = " . (int)$p['id']);
	echo '<tr class="rank" data-id="' . $p['id'] . '" data-score="' . $p['score'] . '"><td>' . $n . '</td><td>' . h($p['name']) . ($p['is_npc'] ? ' (npc)' : '') . '</td><td>' . $p['score'] . '</td><td>' . $provinces . " provinces</td></tr>\n";
}
echo "</table>\n";
page_footer();
