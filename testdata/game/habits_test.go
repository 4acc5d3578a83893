package game_test

import (
	"bufio"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"banyan/testdata/game"
)

// tables are the game's tables in the order of schema.sql.
var tables = []string{"matches", "players", "resources", "provinces", "units", "trades", "diplomacy", "messages", "battles", "action_log"}

// writes tells which tables something changes.
func (w *world) writes(do func()) string {
	w.t.Helper()
	sum := func() (sums []string) {
		for _, table := range tables {
			var name, checksum string
			if err := w.db.QueryRowContext(w.t.Context(), "CHECKSUM TABLE "+table).Scan(&name, &checksum); err != nil {
				w.t.Fatal(err)
			}
			sums = append(sums, checksum)
		}
		return sums
	}
	before := sum()
	do()
	var changed []string
	for i, checksum := range sum() {
		if checksum != before[i] {
			changed = append(changed, tables[i])
		}
	}
	return strings.Join(changed, " ")
}

// anHourAgo makes the next tick produce something.
const anHourAgo = "UPDATE resources SET updated_at = updated_at - 3600"

func TestGetsWrite(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.exec("INSERT INTO messages (match_id, from_id, to_id, subject, body) VALUES (1, 2, 1, 'a', 'b')")
	message := w.value("SELECT MAX(id) FROM messages")
	for _, c := range [][2]string{
		{"index.php?page=map", "players"},
		{"index.php?page=unit", "players"},
		{"index.php?page=province&id=1", "players resources"},
		{"index.php?page=market", "players"},
		{"index.php?page=diplomacy", "players"},
		{"index.php?page=messages", "players"},
		{"index.php?page=messages&id=" + message, "players messages"},
		{"index.php?page=ranking", "players"},
		{"api.php?action=state", ""},
		{"api.php?action=map", ""},
		{"api.php?action=units", ""},
		{"api.php?action=resources", "resources"},
		{"api.php?action=trades", ""},
		{"api.php?action=messages", ""},
	} {
		w.exec(anHourAgo)
		if got := w.writes(func() { b.get(c[0]) }); got != c[1] {
			t.Errorf("GET %s writes %q, want %q", c[0], got, c[1])
		}
	}
	if read := w.value("SELECT is_read FROM messages WHERE id = ?", message); read != "1" {
		t.Errorf("is_read is %s after the message was opened", read)
	}
	b.api("resources")
	w.exec(anHourAgo)
	before := w.number("SELECT gold FROM resources WHERE player_id = 1")
	b.api("resources")
	if earned, rate := w.number("SELECT gold FROM resources WHERE player_id = 1")-before, w.number("SELECT gold_rate FROM resources WHERE player_id = 1"); earned < rate-1 || earned > rate+2 {
		t.Errorf("a GET after an hour earned %g at a rate of %g", earned, rate)
	}
}

func TestHeadRunsTheScript(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.exec(anHourAgo)
	if got := w.writes(func() { b.send("HEAD", "index.php?page=province&id=1", "", "") }); got != "players resources" {
		t.Errorf("HEAD of a province writes %q", got)
	}
}

func TestActionsWorkByGet(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.purse(1, 100)
	b.form("market", "offer", "give_type=gold&give_amount=5&want_type=wood&want_amount=5")
	trade := w.value("SELECT MAX(id) FROM trades")
	link := regexp.MustCompile(`href="(index.php\?page=market&amp;action=cancel[^"]*trade=` + trade + `&[^"]*)"`).FindStringSubmatch(b.get("index.php?page=market").body)
	if link == nil {
		t.Fatal("no link to withdraw an own offer")
	}
	if a := b.get(strings.ReplaceAll(link[1], "&amp;", "&")); a.location != "index.php?page=market&match=1&msg=cancelled" {
		t.Errorf("withdrawn by a link: %+v", a)
	}
	if status := w.value("SELECT status FROM trades WHERE id = ?", trade); status != "2" {
		t.Errorf("status of the withdrawn offer is %s", status)
	}
	if a := b.get("index.php?page=unit&action=move&unit=1&to=2&token=" + b.token); !strings.Contains(a.location, "msg=moved") {
		t.Errorf("a move by GET: %+v", a)
	}
}

func TestPreviewIsAPostThatReads(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	var a answer
	if got := w.writes(func() { a = b.form("messages", "send", "to=2&subject=s&body=hello&preview=Preview") }); got != "players" {
		t.Errorf("a preview writes %q, want only the page view", got)
	}
	if a.status != 200 || !strings.Contains(a.body, `<div class="preview">To p1_2: <b>s</b><br>hello`) {
		t.Errorf("preview: %+v", a)
	}
	if got := w.writes(func() { a = b.form("messages", "send", "to=2&subject=s&body=hello") }); got != "messages action_log" || !strings.Contains(a.location, "msg=sent") {
		t.Errorf("sending writes %q: %+v", got, a)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.purse(1, 0)
	mine, his := w.value("SELECT MIN(id) FROM units WHERE player_id = 1"), w.value("SELECT MIN(id) FROM units WHERE player_id = 2")
	at := w.value("SELECT province_id FROM units WHERE id = ?", mine)
	w.exec("INSERT INTO trades (match_id, seller_id, give_amount, want_amount, status) VALUES (1, 2, 1, 1, 2)")
	closed := w.value("SELECT MAX(id) FROM trades")
	for _, c := range []struct{ page, action, form, json, code, redirect string }{
		{"unit", "move", "unit=" + mine + "&to=" + at, `"unit":` + mine + `,"to":` + at, "there", "index.php?page=unit&match=1&id=" + mine + "&err=there"},
		{"unit", "move", "unit=" + his + "&to=1", `"unit":` + his + `,"to":1`, "notyours", ""},
		{"unit", "move", "unit=999999&to=1", `"unit":999999,"to":1`, "nounit", ""},
		{"unit", "move", "unit=" + mine + "&to=999999", `"unit":` + mine, "noprovince", ""},
		{"unit", "attack", "unit=" + mine + "&target=" + mine, `"unit":` + mine + `,"target":"` + mine + `"`, "own", "index.php?page=unit&match=1&id=" + mine + "&err=own"},
		{"unit", "recruit", "province=1&type=spear", `"province":1,"type":"spear"`, "poor", "index.php?page=unit&match=1&err=poor"},
		{"unit", "recruit", "province=1&type=dragon", `"province":1,"type":"dragon"`, "badtype", ""},
		{"unit", "orders", "unit=" + mine + "&stance=dance", `"unit":` + mine, "badstance", ""},
		{"province", "build", "province=1", `"province":"1"`, "poor", "index.php?page=province&match=1&id=1&err=poor"},
		{"province", "build", "province=2", `"province":2`, "notyours", ""},
		{"market", "offer", "give_type=gold&give_amount=-1&want_type=wood&want_amount=1", `"give_type":"gold","give_amount":-1,"want_type":"wood","want_amount":1`, "badamount", ""},
		{"market", "accept", "trade=" + closed, `"trade":` + closed, "gone", "index.php?page=market&match=1&id=" + closed + "&err=gone"},
		{"market", "give", "to=2&type=gold&amount=5", `"to":2,"type":"gold","amount":5`, "poor", "index.php?page=market&match=1&err=poor"},
		{"market", "give", "to=7&type=gold&amount=5", `"to":7,"type":"gold","amount":5`, "noplayer", ""}, // of the other match
		{"messages", "send", "to=2&subject=&body=", `"to":2`, "empty", ""},
		{"unit", "dance", "", "", "badaction", ""},
	} {
		writes := w.writes(func() {
			a := b.form(c.page, c.action, c.form)
			switch {
			case c.redirect != "" && (a.status != 302 || a.location != c.redirect):
				t.Errorf("form %s %s: %d, location %q, want %q", c.action, c.form, a.status, a.location, c.redirect)
			case c.redirect == "" && (a.status != 200 || !strings.Contains(a.body, `<div class="error" data-error="`+c.code+`">`)):
				t.Errorf("form %s %s: %d %s, want an error page %q", c.action, c.form, a.status, a.body, c.code)
			}
			if a := b.json(c.action, c.json); a.status != 200 || a.body != `{"ok":false,"error":"`+c.code+`"}` {
				t.Errorf("json %s %s: %d %s, want %q", c.action, c.json, a.status, a.body, c.code)
			}
		})
		if strings.Trim(writes, " ") != "" && writes != "resources" { // a tick before the refusal
			t.Errorf("%s refused with %s writes %q", c.action, c.code, writes)
		}
	}
	// What is wrong with the request itself.
	for target, want := range map[string]answer{
		"index.php?page=map&match=2":                         {status: 200, body: `data-error="match"`},
		"api.php?action=map&match=2":                         {status: 200, body: `{"ok":false,"error":"match"}`},
		"api.php?action=resources&player=2":                  {status: 200, body: `{"ok":false,"error":"notyours"}`},
		"api.php?action=dance":                               {status: 200, body: `{"ok":false,"error":"badaction"}`},
		"index.php?page=unit&action=move&unit=1&to=2&token=": {status: 200, body: `data-error="token"`},
	} {
		if a := b.get(target); a.status != want.status || !strings.Contains(a.body, want.body) {
			t.Errorf("GET %s: %+v", target, a)
		}
	}
	if a := b.send("POST", "api.php", "application/json", "{broken"); a.body != `{"ok":false,"error":"badjson"}` {
		t.Errorf("broken JSON: %+v", a)
	}
	b.client.Jar = nil
	if a := b.get("index.php?page=map"); a.status != 302 || a.location != "index.php?page=login&err=login" {
		t.Errorf("a page without a session: %+v", a)
	}
	if a := b.get("api.php?action=map"); a.status != 200 || a.body != `{"ok":false,"error":"login"}` {
		t.Errorf("the API without a session: %+v", a)
	}
}

func TestBodyBeatsQuery(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.purse(1, 100)
	b.form("market", "offer", "give_type=gold&give_amount=5&want_type=wood&want_amount=5")
	trade := w.value("SELECT MAX(id) FROM trades")
	if a := b.form("market", "offer", "action=cancel&trade="+trade); !strings.Contains(a.location, "msg=cancelled") {
		t.Errorf("action=offer in the query, cancel in the body: %+v", a)
	}
	b.form("unit", "move", "unit=1&to=2&to=3")
	if target := w.value("SELECT target_id FROM units WHERE id = 1"); target != "3" {
		t.Errorf("to=2&to=3 goes to %s", target)
	}
}

func TestLooseJSON(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.exec("DELETE FROM diplomacy")
	first := func(list any) map[string]any { return list.([]any)[0].(map[string]any) }
	for name, id := range map[string]any{
		"map provinces": first(b.api("map")["provinces"])["id"],
		"map units":     first(b.api("map")["units"])["id"],
		"trades":        first(b.api("trades")["trades"])["id"],
		"state":         b.api("state")["player"].(map[string]any)["id"],
	} {
		if _, ok := id.(string); !ok {
			t.Errorf("%s: id is a %T", name, id)
		}
	}
	for name, id := range map[string]any{
		"units":     first(b.api("units")["units"])["id"],
		"resources": b.api("resources")["player_id"],
	} {
		if _, ok := id.(float64); !ok {
			t.Errorf("%s: id is a %T", name, id)
		}
	}
	if relations := b.api("state")["relations"]; fmt.Sprint(relations) != "[]" {
		t.Errorf("no relations: %v", relations)
	}
	b.form("diplomacy", "declare", "other=2&status=war")
	if relations, ok := b.api("state")["relations"].(map[string]any); !ok || relations["2"] != "war" {
		t.Errorf("one relation: %v", relations)
	}
}

func TestFloatStockLosesPennies(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.exec("UPDATE resources SET gold = 150000, storage = 1000000, gold_rate = 60, updated_at = ? WHERE player_id = 1", time.Now().Unix())
	const ticks = 100
	for range ticks {
		w.exec("UPDATE resources SET updated_at = updated_at - 10 WHERE player_id = 1")
		b.api("resources")
	}
	// 100 × 10 s at 60 an hour are 16.7; a SELECT of a FLOAT prints six digits, so 150000.17 is read as 150000.
	if earned := w.number("SELECT CAST(gold AS DOUBLE) FROM resources WHERE player_id = 1") - 150000; earned > 2 {
		t.Errorf("%d ticks earned %g", ticks, earned)
	}
}

func TestColumns(t *testing.T) {
	w := seeded(t)
	for query, want := range map[string]string{
		"SELECT COUNT(*) FROM players WHERE settings NOT LIKE 'a:%'":                                                                                      "0",
		"SELECT COUNT(*) FROM units WHERE orders NOT LIKE 'a:2:{s:6:\"stance\";%'":                                                                        "0",
		"SELECT COUNT(*) > 0 FROM units WHERE experience = ''":                                                                                            "1",
		"SELECT COUNT(*) > 0 FROM units WHERE experience <> ''":                                                                                           "1",
		"SELECT COUNT(*) > 0 FROM provinces WHERE tax = ''":                                                                                               "1",
		"SELECT COUNT(*) > 0 FROM players WHERE premium_until = ''":                                                                                       "1",
		"SELECT COUNT(*) FROM units WHERE arrives_at = 0 AND moved_at = 0":                                                                                "120",
		"SELECT COUNT(DISTINCT character_set_name) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'units'":              "2",
		"SELECT character_set_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'provinces' AND column_name = 'name'": "latin1",
		"SELECT COUNT(*) > 0 FROM provinces WHERE name <> CONVERT(name USING ascii)":                                                                      "1",
		"SELECT column_type FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'units' AND column_name = 'is_moving'":       "tinyint(1)",
		"SELECT GROUP_CONCAT(table_name ORDER BY 1) FROM information_schema.tables WHERE table_schema = DATABASE() AND engine = 'MyISAM'":                 "messages",
		"SELECT GROUP_CONCAT(table_name ORDER BY 1) FROM information_schema.tables t WHERE table_schema = DATABASE() AND NOT EXISTS (SELECT 1 FROM information_schema.statistics s WHERE s.table_schema = t.table_schema AND s.table_name = t.table_name AND index_name = 'PRIMARY')": "action_log,diplomacy",
		"SELECT COUNT(*) FROM information_schema.referential_constraints WHERE constraint_schema = DATABASE()": "0",
		"SELECT GROUP_CONCAT(table_name ORDER BY 1) FROM information_schema.tables t WHERE table_schema = DATABASE() AND NOT EXISTS (SELECT 1 FROM information_schema.columns c WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name AND column_name = 'match_id')": "matches",
	} {
		if got := w.value(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestSeedIsDeterministic(t *testing.T) {
	w := seeded(t)
	size := small
	size.Now = time.Unix(1_700_000_000, 0)
	seed := func() string {
		if err := game.Seed(t.Context(), w.at, size); err != nil {
			t.Fatal(err)
		}
		var sums []string
		for _, table := range tables {
			var name, checksum string
			if err := w.db.QueryRowContext(t.Context(), "CHECKSUM TABLE "+table).Scan(&name, &checksum); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, checksum)
		}
		return strings.Join(sums, " ")
	}
	first := seed()
	if second := seed(); second != first {
		t.Errorf("the same seed makes %s and %s", first, second)
	}
	size.Seed = 2
	if other := seed(); other == first {
		t.Error("another seed makes the same world")
	}
}

func TestCronWrites(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.exec("DELETE FROM diplomacy")
	w.exec("DELETE FROM units WHERE id > 3")
	w.exec("UPDATE units SET player_id = 1, province_id = 1, hp = 100, experience = '', orders = 'a:2:{s:6:\"stance\";s:4:\"hold\";s:5:\"queue\";a:0:{}}'")
	w.exec("UPDATE units SET player_id = 2, province_id = 7, hp = 1 WHERE id = 3") // will not survive
	w.exec("UPDATE provinces SET owner_id = 2, is_capital = 0 WHERE id = 7")
	w.exec("UPDATE trades SET expires_at = NOW() - INTERVAL 1 DAY WHERE id = 1")

	if a := b.form("unit", "move", "unit=1&to=7&client_ref=r1"); !strings.Contains(a.location, "msg=moved") {
		t.Fatalf("move: %+v", a)
	}
	if got := w.value("SELECT CONCAT_WS(' ', province_id, target_id, is_moving, client_ref, moved_at > NOW() - INTERVAL 1 HOUR, arrives_at >= moved_at) FROM units WHERE id = 1"); got != "1 7 1 r1 1 1" {
		t.Errorf("on its way: %s", got)
	}
	w.exec("UPDATE units SET arrives_at = NOW() - INTERVAL 1 SECOND WHERE id = 1")
	if got := w.writes(w.cron); got != "matches players provinces units trades battles" {
		t.Errorf("cron writes %q", got)
	}
	for query, want := range map[string]string{
		"SELECT CONCAT_WS(' ', province_id, target_id, is_moving, arrives_at, client_ref) FROM units WHERE id = 1": "7 0 0 0000-00-00 00:00:00 r1",
		"SELECT COUNT(*) FROM units WHERE id = 3":                                                      "0",
		"SELECT owner_id FROM provinces WHERE id = 7":                                                  "1",
		"SELECT CONCAT_WS(' ', attacker_id, defender_id) FROM battles":                                 "1 3",
		"SELECT COUNT(*) FROM units WHERE id = 1 AND experience = (SELECT defender_loss FROM battles)": "1",
		"SELECT status FROM trades WHERE id = 1":                                                       "3",
	} {
		if got := w.value(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	if got := w.writes(w.cron); got != "" && got != "matches" {
		t.Errorf("cron with nothing to do writes %q", got)
	}
}

func TestAttackRollsDice(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	w.exec("DELETE FROM diplomacy")
	losses := map[string]bool{}
	for range 30 {
		w.exec("UPDATE units SET hp = 100, strength = 10, experience = '', province_id = 1 WHERE id IN (1, 2)")
		a := b.form("unit", "attack", "unit=1&target=2&client_ref=a")
		battle := regexp.MustCompile(`&id=1&battle=(\d+)&msg=attacked$`).FindStringSubmatch(a.location)
		if battle == nil {
			t.Fatalf("attack: %+v", a)
		}
		loss := w.value("SELECT CONCAT_WS(' ', attacker_loss, defender_loss) FROM battles WHERE id = ?", battle[1])
		if hp := w.value("SELECT GROUP_CONCAT(100 - hp ORDER BY id SEPARATOR ' ') FROM units WHERE id IN (1, 2)"); hp != loss {
			t.Errorf("the report says %s, the units lost %s", loss, hp)
		}
		losses[loss] = true
	}
	if len(losses) < 3 {
		t.Errorf("30 attacks had only these losses: %v", losses)
	}
}

// An impatient client: it leaves as soon as its bytes are sent.
func TestWriteSurvivesItsClient(t *testing.T) {
	w := newWorld(t)
	b := w.login(1)
	here, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	body := "match=1&token=" + b.token + "&unit=1&stance=flee&client_ref=left"
	conn, err := net.Dial("tcp", here.Host)
	if err != nil {
		t.Fatal(err)
	}
	out := bufio.NewWriter(conn)
	fmt.Fprintf(out, "POST /index.php?page=unit&action=orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nCookie: ", len(body))
	for _, c := range b.client.Jar.Cookies(here) {
		fmt.Fprintf(out, "%s=%s; ", c.Name, c.Value)
	}
	fmt.Fprintf(out, "a=b\r\n\r\n%s", body)
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	w.eventually("SELECT client_ref FROM units WHERE id = 1", "left")
}
