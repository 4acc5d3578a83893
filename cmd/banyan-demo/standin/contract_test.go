package standin_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/url"
	"strings"
	"testing"
)

// Before each action: units 1, 7, 13 of player 1 and 2 of player 2 in province 1, trades 1
// of player 2, 2 of player 1 and a closed 3, message 1 to player 1.
var known = []string{
	"UPDATE units SET player_id = 1 + (id - 1) % 6, hp = 100, is_moving = 0, target_id = 0, experience = '', strength = 10 WHERE id <= 60",
	"UPDATE units SET province_id = 1 WHERE id IN (1, 2, 7)",
	"UPDATE provinces SET level = 1, owner_id = id WHERE id <= 6",
	"UPDATE provinces SET x = id, y = 50 WHERE id <= 6",
	"DELETE FROM units WHERE id = 13",
	`INSERT INTO units (id, match_id, player_id, province_id, hp, orders) VALUES (13, 1, 1, 1, 100, 'a:0:{}')`,
	"UPDATE trades SET match_id = 1, status = 0, buyer_id = 0, seller_id = 2, give_type = 'gold', give_amount = 5, want_type = 'wood', want_amount = 7.5 WHERE id <= 3",
	"UPDATE trades SET seller_id = 1 WHERE id = 2",
	"UPDATE trades SET status = 2 WHERE id = 3",
	"DELETE FROM messages WHERE id = 1",
	"INSERT INTO messages (id, match_id, from_id, to_id, subject, body) VALUES (1, 1, 2, 1, 's', 'b')",
	"DELETE FROM diplomacy",
	"UPDATE resources SET gold = 5000, wood = 5000, iron = 5000, gold_rate = 0, wood_rate = 0, iron_rate = 0",
}

// Each action done, and refused in each way that the contract names.
var deeds = []struct {
	page, action, fields, code string
	before                     []string
}{
	{"unit", "move", "unit=1&to=2", "moved", nil},
	{"unit", "move", "unit=1&to=2", "moving", []string{"UPDATE units SET is_moving = 1, target_id = 5 WHERE id = 1"}},
	{"unit", "move", "unit=1&to=1", "there", nil},
	{"unit", "move", "unit=1&to=5", "far", []string{"UPDATE provinces SET x = 100 WHERE id = 5"}},
	{"unit", "move", "unit=999999&to=2", "nounit", nil},
	{"unit", "move", "unit=61&to=2", "nounit", nil}, // of the other match
	{"unit", "move", "unit=1&to=2", "nounit", []string{"UPDATE units SET hp = 0 WHERE id = 1"}},
	{"unit", "move", "unit=2&to=2", "notyours", nil},
	{"unit", "move", "unit=1&to=999999", "noprovince", nil},
	{"unit", "move", "unit=1&to=13", "noprovince", nil},
	{"unit", "attack", "unit=1&target=2", "moving", []string{"UPDATE units SET is_moving = 1 WHERE id = 1"}},
	{"unit", "attack", "unit=1&target=2", "apart", []string{"UPDATE units SET province_id = 2 WHERE id = 1"}},
	{"unit", "attack", "unit=1&target=2", "apart", []string{"UPDATE units SET is_moving = 1 WHERE id = 2"}},
	{"unit", "attack", "unit=1&target=7", "own", nil},
	{"unit", "attack", "unit=1&target=2", "friends", []string{"INSERT INTO diplomacy (match_id, player_id, other_id, status) VALUES (1, 1, 2, 'alliance')"}},
	{"unit", "attack", "unit=1&target=2", "gone", []string{"UPDATE units SET hp = 0 WHERE id = 2"}},
	{"unit", "attack", "unit=1&target=999999", "gone", nil},
	{"unit", "attack", "unit=2&target=1", "notyours", nil},
	{"unit", "recruit", "province=1&type=knight", "recruited", nil},
	{"unit", "recruit", "province=1&type=scout", "recruited", []string{"UPDATE resources SET gold = 20.5, wood = 10, iron = 0.3 WHERE player_id = 1"}},
	{"unit", "recruit", "province=1&type=siege", "poor", []string{"UPDATE resources SET iron = 99.99 WHERE player_id = 1"}},
	{"unit", "recruit", "province=1&type=spear", "full", []string{"UPDATE units SET player_id = 1 WHERE match_id = 1"}},
	{"unit", "recruit", "province=999&type=spear", "noprovince", nil},
	{"unit", "recruit", "province=2&type=spear", "notyours", nil},
	{"unit", "recruit", "province=1&type=dragon", "badtype", nil},
	{"unit", "orders", "unit=7&stance=flee", "ordered", nil},
	{"unit", "orders", "unit=13&stance=attack", "ordered", nil}, // of which the orders have no stance
	{"unit", "orders", "unit=13&stance=hold", "ordered", []string{"UPDATE units SET orders = 'broken' WHERE id = 13"}},
	{"unit", "orders", "unit=7&stance=dance", "badstance", nil},
	{"unit", "orders", "unit=2&stance=flee", "notyours", nil},
	{"unit", "disband", "unit=13", "disbanded", nil},
	{"unit", "disband", "unit=13", "moving", []string{"UPDATE units SET is_moving = 1 WHERE id = 13"}},
	{"unit", "disband", "unit=2", "notyours", nil},
	{"unit", "disband", "unit=x", "nounit", nil},
	{"province", "build", "province=1", "built", nil},
	{"province", "build", "province=1", "poor", []string{"UPDATE resources SET wood = 99 WHERE player_id = 1"}},
	{"province", "build", "province=1", "max", []string{"UPDATE provinces SET level = 10 WHERE id = 1"}},
	{"province", "build", "province=999", "noprovince", nil},
	{"province", "build", "province=2", "notyours", nil},
	{"market", "offer", "give_type=gold&give_amount=12.345&want_type=wood&want_amount=7", "offered", nil},
	{"market", "offer", "give_type=gold&give_amount=5001&want_type=wood&want_amount=7", "poor", nil},
	{"market", "offer", "give_type=gold&give_amount=5&want_type=wood&want_amount=7", "full", []string{"UPDATE trades SET seller_id = 1, status = 0, match_id = 1"}},
	{"market", "offer", "give_type=gold&give_amount=5&want_type=gold&want_amount=7", "badtype", nil},
	{"market", "offer", "give_type=beer&give_amount=5&want_type=gold&want_amount=7", "badtype", nil},
	{"market", "offer", "give_type=gold&give_amount=0&want_type=wood&want_amount=7", "badamount", nil},
	{"market", "offer", "give_type=gold&give_amount=5&want_type=wood&want_amount=-7", "badamount", nil},
	{"market", "offer", "give_type=gold&give_amount=5x&want_type=wood&want_amount=7", "badamount", nil},
	{"market", "offer", "give_type=gold&give_amount=100001&want_type=wood&want_amount=7", "badamount", nil},
	{"market", "accept", "trade=1", "accepted", nil},
	{"market", "accept", "trade=3", "gone", nil},
	{"market", "accept", "trade=2", "own", nil},
	{"market", "accept", "trade=1", "poor", []string{"UPDATE resources SET wood = 7 WHERE player_id = 1"}},
	{"market", "accept", "trade=1", "sellerpoor", []string{"UPDATE resources SET gold = 4 WHERE player_id = 2"}},
	{"market", "accept", "trade=999", "notrade", nil},
	{"market", "cancel", "trade=2", "cancelled", nil},
	{"market", "cancel", "trade=2", "gone", []string{"UPDATE trades SET status = 3 WHERE id = 2"}},
	{"market", "cancel", "trade=1", "notyours", nil},
	{"market", "cancel", "trade=", "notrade", nil},
	{"market", "give", "to=2&type=iron&amount=3.75", "given", nil},
	{"market", "give", "to=2&type=iron&amount=5000", "given", []string{"UPDATE resources SET iron = 19000 WHERE player_id = 2"}}, // more than its storage holds
	{"market", "give", "to=2&type=iron&amount=5001", "poor", nil},
	{"market", "give", "to=1&type=iron&amount=3", "own", nil},
	{"market", "give", "to=7&type=iron&amount=3", "noplayer", nil},
	{"market", "give", "to=2&type=&amount=3", "badtype", nil},
	{"market", "give", "to=2&type=iron&amount=", "badamount", nil},
	{"diplomacy", "declare", "other=2&status=war", "declared", nil},
	{"diplomacy", "declare", "other=3&status=alliance", "declared", []string{"INSERT INTO diplomacy (match_id, player_id, other_id, status) VALUES (1, 1, 3, 'war')"}},
	{"diplomacy", "declare", "other=1&status=war", "own", nil},
	{"diplomacy", "declare", "other=7&status=war", "noplayer", nil},
	{"diplomacy", "declare", "other=2&status=love", "badstatus", nil},
	{"messages", "send", "to=2&subject=" + esc(" Grüße ") + "&body=" + esc("a\r\nb <i>'q\" & €"), "sent", nil},
	{"messages", "send", "to=2&subject=" + esc("λόγος "+strings.Repeat("ö", 90)) + "&body=b", "sent", nil}, // not latin1, and too long
	{"messages", "send", "to=2&subject=s&body=" + esc("b\nb <b>") + "&preview=1", "preview", nil},
	{"messages", "send", "to=99&subject=s&body=b", "noplayer", nil},
	{"messages", "send", "to=2&subject=s&body=" + esc(" \n"), "empty", nil},
	{"messages", "delete", "message=1", "deleted", nil},
	{"messages", "delete", "message=1", "gone", []string{"UPDATE messages SET to_id = 2 WHERE id = 1"}},
	{"unit", "dance", "", "badaction", nil},
}

func esc(s string) string { return url.QueryEscape(s) }

func TestEveryActionAnswersAndWritesTheSame(t *testing.T) {
	x := newTwins(t)
	for i, d := range deeds {
		ref := fmt.Sprintf("deed-%d", i)
		for _, how := range []string{"form", "json"} {
			x.sql(known...)
			x.sql(d.before...)
			name := fmt.Sprintf("%s %s %s (%s)", how, d.action, d.fields, d.code)
			fields := d.fields + "&client_ref=" + ref + how
			a := x.do(name, 1, func(b *browser) answer {
				if how == "form" {
					return b.form(d.page, d.action, fields)
				}
				return b.send("POST", "api.php", "application/json", jsonOf(b, d.action, fields))
			})
			if !strings.Contains(a.location+a.body, d.code) {
				t.Errorf("%s: the original answers %d %q %s", name, a.status, a.location, a.body)
			}
			if t.Failed() && i > 5 {
				t.FailNow() // one difference in the rows shows after each step that follows
			}
		}
	}
}

// jsonOf writes a form's fields as a script in the page would: numbers as numbers.
func jsonOf(b *browser, action, fields string) string {
	out := fmt.Sprintf(`{"action":%q,"match":1,"token":%q`, action, b.token)
	values, _ := url.ParseQuery(fields)
	for name := range values {
		v := values.Get(name)
		if v == "" || strings.Trim(v, "-0123456789.") != "" {
			v = fmt.Sprintf("%q", v)
		}
		out += fmt.Sprintf(",%q:%s", name, v)
	}
	return out + "}"
}

// A round of battle rolls dice: its numbers are checked by the rule, each side by itself.
func TestBattles(t *testing.T) {
	x := newTwins(t)
	for i := range 12 {
		x.sql(known...)
		x.sql("DELETE FROM battles", "UPDATE players SET score = 100", "UPDATE units SET hp = 12, strength = 25 WHERE id = 2")
		fields := fmt.Sprintf("unit=1&target=2&client_ref=b%d", i)
		a := x.ask(x.as(1), func(b *browser) answer { return b.form("unit", "attack", fields) })
		x.compareAnswers("attack", x.as(1), a)
		for _, w := range x.both {
			if got := w.value("SELECT COUNT(*) FROM battles b, units me, units it, players p WHERE me.id = 1 AND it.id = 2 AND p.id = 1 AND attacker_id = 1 AND defender_id = 2" +
				" AND b.province_id = 1 AND attacker_loss BETWEEN 6 AND 22 AND defender_loss BETWEEN 15 AND 25 AND me.hp = 100 - attacker_loss AND it.hp = 0 AND p.score = 100 + defender_loss" +
				fmt.Sprintf(" AND me.experience = CAST(defender_loss AS CHAR(2)) AND me.client_ref = 'b%d' AND b.client_ref = me.client_ref AND it.client_ref <> me.client_ref", i)); got != "1" {
				t.Errorf("%s: a battle by the rules leaves %v", w.name, w.rows("SELECT * FROM battles"))
			}
			if report := w.value("SELECT report FROM battles"); !strings.HasPrefix(report, `a:2:{s:8:"attacker";a:3:{s:4:"name";s:`) || !strings.HasSuffix(report, `s:2:"hp";i:0;s:6:"player";i:2;}}`) {
				t.Errorf("%s: report %s", w.name, report)
			}
		}
	}
	x.sql("DELETE FROM battles", "UPDATE units SET hp = 100, experience = ''", "UPDATE players SET score = 0")
	x.compareRows("after battles")
}

// What PHP makes of parameters that no form would send.
func TestLooseParameters(t *testing.T) {
	x := newTwins(t)
	for _, fields := range []string{
		"unit=1abc&to=+2", "unit=1.9&to=2e0", "unit=%201&to=0x2", "unit[]=1&to=2", "unit=7&unit=1&to=2&to=4", "unit=-1&to=2", "unit=1&to=99999999999999999999", "unit=1e30&to=2", "unit=&to=",
		"unit=1&to=2&client_ref=" + esc("a b/ü;'--"+strings.Repeat("z", 60)), "unit=1&to=2&match=01", "unit=1&to=2&match=1.0", "unit=1&to=2&match=1x", "unit=1&to=2&match=2", "unit=1&to=2&match=",
		"unit=1&to=2&token=", "unit=1&to=2&token=wrong", "action=orders&unit=1&stance=flee", "unit=1&to=2&page=market", "u.nit=1&unit=7&t+o=2&to=2", "action[]=orders&unit=1&to=2&action=move",
	} {
		x.sql(known...)
		x.do("form "+fields, 1, func(b *browser) answer { return b.form("unit", "move", fields) })
		x.sql(known...)
		x.do("link "+fields, 1, func(b *browser) answer {
			return b.get("index.php?page=unit&action=move&token=" + b.token + "&" + fields)
		})
	}
	for _, body := range []string{
		`{"unit":"1","to":2.0}`, `{"unit":1.9,"to":"2"}`, `{"unit":true,"to":2}`, `{"unit":null,"to":2}`, `{"unit":[1],"to":2}`, `{"unit":{"a":1},"to":2}`, `{"unit":1,"to":2e0}`, `{"unit":1,"to":99999999999999999999}`,
		`{"unit":7,"unit":1,"to":2}`, `{"unit":1,"to":2,"client_ref":["x"]}`, `{"unit":1,"to":2,"client_ref":12.50}`, `{"unit":1,"to":2,"client_ref":false}`, `{"unit":1,"to":2,"match":"01"}`, `{"unit":1,"to":2,"match":1.0}`,
		`{"unit":1,"to":2,"match":[1]}`, `{"unit":1,"to":2,"match":2}`, `{"unit":1,"to":2,"match":null}`, `{"unit":1,"to":2,"token":1}`, `{"unit":1,"to":2,"token":null}`,
		`{"action":"give","to":2,"type":"gold","amount":"1e2"}`, `{"action":"give","to":2,"type":"gold","amount":" 7 "}`, `{"action":"give","to":2,"type":"gold","amount":0.1}`, `{"action":"give","to":2,"type":"gold","amount":1e-7}`,
		`{"action":"give","to":2,"type":"gold","amount":".5"}`, `{"action":"give","to":2,"type":"gold","amount":"5."}`, `{"action":"give","to":2,"type":"gold","amount":"."}`, `{"action":"give","to":2,"type":"gold","amount":true}`,
		`{"action":"offer","give_type":"gold","give_amount":0.00001,"want_type":"iron","want_amount":100000}`,
		`{"action":"send","to":2,"subject":"\u00fc\ud83d\ude00/","body":"b","preview":[]}`, `{"action":"send","to":2,"subject":"s","body":"b","preview":null}`,
		`{"action":5}`, `{"action":["move"]}`, `{"":1}`, `[]`, `[1,2]`, `"move"`, `1`, `null`, ``, ` `, `{`, `{"a":1}x`, `{"a":1} `, "\xef\xbb\xbf{}", "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, `{'a':1}`, `{"a":01}`, `{"a":1,}`,
		strings.Repeat("[", 511) + strings.Repeat("]", 511), strings.Repeat("[", 512) + strings.Repeat("]", 512),
	} {
		x.sql(known...)
		x.do("json "+body[:min(len(body), 60)], 1, func(b *browser) answer {
			text := body
			if strings.HasPrefix(text, `{"unit"`) || strings.HasPrefix(text, `{"action":"`) {
				head := fmt.Sprintf(`{"token":%q,`, b.token)
				if !strings.Contains(text, `"action"`) {
					head += `"action":"move",`
				}
				text = head + text[1:]
			}
			return b.send("POST", "api.php", "text/plain", text)
		})
	}
	x.sql(known...)
	x.do("trades with odd amounts", 1, func(b *browser) answer { return b.get("api.php?action=trades") })
	x.do("market with odd amounts", 1, func(b *browser) answer { return b.get("index.php?page=market") })
}

func TestMethodsAndBodies(t *testing.T) {
	x := newTwins(t)
	form := "application/x-www-form-urlencoded"
	for _, c := range []struct{ method, target, contentType, body string }{
		{"HEAD", "index.php?page=province&id=1", "", ""},
		{"HEAD", "api.php?action=resources", "", ""},
		{"PUT", "index.php?page=unit&action=move&unit=1&to=2&token=TOKEN", form, "unit=7"},
		{"DELETE", "index.php?page=unit&action=move&unit=1&to=2&token=TOKEN", "", ""},
		{"PUT", "api.php?action=state", "application/json", `{"action":"map"}`},
		{"POST", "index.php", "text/plain", "page=unit&action=move&unit=1&to=2&token=TOKEN"},
		{"POST", "index.php?page=ranking", form + "; charset=utf-8", "page=unit&action=move&unit=1&to=2&token=TOKEN"},
		{"POST", "index.php?page=ranking", "APPLICATION/X-WWW-FORM-URLENCODED", "page=diplomacy"},
		{"POST", "api.php?action=move&unit=1&to=2&token=TOKEN", form, "action=move&unit=1&to=2&token=TOKEN"},
		{"POST", "api.php?action=move&unit=1", form, `{"action":"orders","unit":1,"stance":"flee","token":"TOKEN"}`},
		{"GET", "", "", ""}, {"GET", "?page=ranking", "", ""}, {"GET", "index.php/extra?page=ranking", "", ""}, {"GET", "api.php/x/y?action=state", "", ""}, {"GET", "//index.php?page=ranking", "", ""},
	} {
		x.sql(known...)
		x.do(c.method+" "+c.target, 1, func(b *browser) answer {
			return b.send(c.method, strings.ReplaceAll(c.target, "TOKEN", b.token), c.contentType, strings.ReplaceAll(c.body, "TOKEN", b.token))
		})
	}
	x.sql(known...)
	x.do("multipart", 1, func(b *browser) answer {
		var body bytes.Buffer
		w := multipart.NewWriter(&body)
		for _, f := range [][2]string{{"page", "messages"}, {"action", "send"}, {"to", "2"}, {"subject", "Grüße"}, {"body", "a=b&c\r\nd"}, {"token", b.token}, {"match", "1"}} {
			_ = w.WriteField(f[0], f[1])
		}
		_ = w.Close()
		return b.send("POST", "index.php", w.FormDataContentType(), body.String())
	})
}

func TestPagesAndPolls(t *testing.T) {
	x := newTwins(t)
	x.sql(known...)
	x.do("a move", 1, func(b *browser) answer { return b.form("unit", "move", "unit=7&to=4&client_ref=m") })
	x.do("a war", 1, func(b *browser) answer { return b.form("diplomacy", "declare", "other=4&status=war") })
	x.do("a letter", 1, func(b *browser) answer {
		return b.form("messages", "send", "to=2&subject="+esc("<i>ö")+"&body="+esc("1\n2\r\n3 \"'&"))
	})
	for _, player := range []int{1, 2, 0} {
		for _, target := range []string{
			"", "index.php", "index.php?page=map", "index.php?page=map&match=1&msg=welcome", "index.php?page=unit&err=moving&msg=<b>", "index.php?page=unit&id=1", "index.php?page=unit&id=7", "index.php?page=unit&id=2", "index.php?page=unit&id=abc",
			"index.php?page=province&id=1", "index.php?page=province&id=2", "index.php?page=province&id=13", "index.php?page=province", "index.php?page=market", "index.php?page=diplomacy", "index.php?page=messages", "index.php?page=messages&id=1",
			"index.php?page=messages&id=4", "index.php?page=messages&id=7", "index.php?page=messages&id=7", "index.php?page=ranking", "index.php?page=nonsense", "index.php?page[]=unit", "index.php?page=map&match=2", "index.php?page=map&match=", "index.php?page=map&match=1.0",
			"index.php?page=login", "index.php?page=login&name=%22%3E&err=login",
			"api.php", "api.php?action=state", "api.php?action=state&match=1", "api.php?action=map", "api.php?action=map&match=2", "api.php?action=map&match=", "api.php?action=units", "api.php?action=units&player=2", "api.php?action=units&player=7", "api.php?action=units&player=x",
			"api.php?action=resources", "api.php?action=resources&player=1", "api.php?action=resources&player=01", "api.php?action=resources&player=", "api.php?action=trades", "api.php?action=messages", "api.php?action=move&unit=1&to=2", "api.php?action=dance",
		} {
			x.do(fmt.Sprintf("player %d: GET /%s", player, target), player, func(b *browser) answer { return b.get(target) })
		}
	}
}

func TestSessions(t *testing.T) {
	x := newTwins(t)
	fresh := [2]*browser{x.both[0].browser(), x.both[1].browser()}
	x.browsers[10] = fresh
	get := func(target string) func(*browser) answer {
		return func(b *browser) answer { return b.get(target) }
	}
	login := func(name, password string) func(*browser) answer {
		return func(b *browser) answer {
			return b.post("index.php?page=login&action=login", url.Values{"name": {name}, "password": {password}, "token": {b.token}}.Encode())
		}
	}
	x.do("a login before a session", 10, login("p1_1", "secret"))
	x.do("the form", 10, get("index.php?page=login"))
	for i := range fresh {
		fresh[i].learn(fresh[i].get("index.php?page=login"))
	}
	x.do("wrong password", 10, login("p1_1", "wrong"))
	x.do("nobody", 10, login("p9_9' OR 1=1 -- <\x00", "secret"))
	x.do("no name", 10, login("", ""))
	x.do("login in capitals, blanks after", 10, login("P1_2  ", "secret"))
	x.do("map with the login's token", 10, get("index.php?page=map&match=1&msg=welcome"))
	x.do("the same token works after the login", 10, func(b *browser) answer { return b.form("unit", "orders", "unit=2&stance=flee") })
	x.do("another login over it", 10, login("p1_3", "secret"))
	x.do("whose map", 10, get("index.php?page=map"))
	x.do("logout", 10, get("index.php?page=login&action=logout"))
	x.do("after logout", 10, get("index.php?page=map"))
	x.do("the API after logout", 10, get("api.php?action=state"))
	x.do("the old token", 10, login("p1_3", "secret"))
	x.browsers[11] = [2]*browser{x.both[0].browser(), x.both[1].browser()}
	for i := range x.browsers[11] {
		x.browsers[11][i].header = map[string][]string{"Cookie": {"a=b; PHPSESSID=chosen-by-me; PHPSESSID=second"}}
	}
	x.do("an id that the browser chose", 11, get("index.php?page=login"))
	x.sql("DELETE FROM players WHERE id = 4")
	x.as(5)
	x.sql("DELETE FROM players WHERE id = 5")
	x.do("a player who is gone", 5, get("index.php?page=map"))
}

// A script that the database fails ends there, with what it had printed and written.
func TestTheDatabaseFails(t *testing.T) {
	x := newTwins(t)
	x.sql(known...)
	x.as(1)
	x.sql("ALTER TABLE action_log RENAME TO away")
	ask := func(name string, what func(*browser) answer) {
		x.compareAnswers(name, x.as(1), x.ask(x.as(1), what))
	}
	ask("an action without its log", func(b *browser) answer { return b.form("province", "build", "province=1") })
	ask("the same by JSON", func(b *browser) answer {
		return b.send("POST", "api.php", "application/json", jsonOf(b, "build", "province=1"))
	})
	x.sql("ALTER TABLE away RENAME TO action_log")
	x.compareRows("half an action")
	x.sql("ALTER TABLE messages RENAME TO away")
	for _, target := range []string{"index.php?page=map", "index.php?page=messages", "api.php?action=state", "index.php?page=login"} {
		ask(target, func(b *browser) answer { return b.get(target) })
	}
	x.sql("ALTER TABLE away RENAME TO messages")
	x.do("and back", 1, func(b *browser) answer { return b.get("index.php?page=messages") })
}

// Production: as much in both, within what the clock makes of it, and lost in both where six digits do not hold it.
func TestProduction(t *testing.T) {
	x := newTwins(t)
	x.sql("UPDATE resources SET gold = 812.34, wood = 12345.678, iron = 19999, gold_rate = 300, wood_rate = 66, iron_rate = 600, updated_at = updated_at - 3600 WHERE player_id = 1")
	a := x.ask(x.as(1), func(b *browser) answer { return b.get("api.php?action=resources") })
	for i, w := range x.both {
		if !strings.Contains(a[i].body, `"iron":20000,"rates":{"gold":300,"wood":66,"iron":600},"storage":20000`) {
			t.Errorf("%s: %s", w.name, a[i].body)
		}
		if earned := w.number("SELECT gold FROM resources WHERE player_id = 1") - 812.34; earned < 299 || earned > 300+300*(x.slowest.Seconds()+60)/3600 {
			t.Errorf("%s earned %g", w.name, earned)
		}
	}
	x.compareRows("an hour of production")
	x.sql("UPDATE resources SET gold = 150000, storage = 1000000, gold_rate = 60, wood_rate = 0, iron_rate = 0 WHERE player_id = 1")
	for range 30 {
		x.sql("UPDATE resources SET updated_at = updated_at - 10 WHERE player_id = 1")
		x.ask(x.as(1), func(b *browser) answer { return b.get("api.php?action=resources") })
	}
	for _, w := range x.both {
		if earned := w.number("SELECT gold FROM resources WHERE player_id = 1") - 150000; earned > 2 {
			t.Errorf("%s: a large purse earned %g; ticks of 0.17 are below six digits", w.name, earned)
		}
	}
}

func TestCronDoesTheSame(t *testing.T) {
	x := newTwins(t)
	x.sql("DELETE FROM diplomacy", "DELETE FROM units WHERE id > 12 AND match_id = 1", "UPDATE units SET province_id = 9, hp = 100, strength = 10, experience = '' WHERE id <= 12",
		"UPDATE provinces SET owner_id = 2, is_capital = 0 WHERE id IN (7, 8, 10, 11)",
		"UPDATE units SET province_id = 1 WHERE id = 1",
		"UPDATE units SET hp = 0 WHERE id = 4",
		"UPDATE units SET province_id = 8 WHERE id = 3", // a friend of 1 in his own province's neighbour
		"INSERT INTO diplomacy (match_id, player_id, other_id, status) VALUES (1, 1, 3, 'peace'), (1, 3, 1, 'peace'), (1, 5, 2, 'alliance')",
		"UPDATE units SET is_moving = 1, target_id = 7, arrives_at = '2020-01-01 00:00:00' WHERE id = 1",  // conquers an empty province
		"UPDATE units SET is_moving = 1, target_id = 8, arrives_at = '2020-01-01 00:00:01' WHERE id = 7",  // a friend defends it
		"UPDATE units SET is_moving = 1, target_id = 2, arrives_at = '2020-01-01 00:00:01' WHERE id = 6",  // a capital
		"UPDATE units SET is_moving = 1, target_id = 11, arrives_at = '2020-01-01 00:00:02' WHERE id = 5", // the owner is a friend
		"UPDATE units SET is_moving = 1, target_id = 10, arrives_at = '2100-01-01 00:00:00' WHERE id = 2", // not yet
		"UPDATE trades SET expires_at = '2020-01-01 00:00:00' WHERE id IN (1, 4)",
		"UPDATE matches SET status = 0 WHERE id = 2")
	x.runCron("cron")
	for query, want := range map[string]string{
		"SELECT owner_id FROM provinces WHERE id = 7":                                                   "1",
		"SELECT owner_id FROM provinces WHERE id = 8":                                                   "2",
		"SELECT owner_id FROM provinces WHERE id = 11":                                                  "2",
		"SELECT COUNT(*) FROM units WHERE id = 4":                                                       "0",
		"SELECT province_id FROM units WHERE id = 7 AND is_moving = 0 AND target_id = 0":                "8",
		"SELECT is_moving FROM units WHERE id = 2":                                                      "1",
		"SELECT COUNT(*) FROM trades WHERE status = 3":                                                  "1",
		"SELECT COUNT(*) FROM battles":                                                                  "0",
		"SELECT COUNT(*) FROM units WHERE match_id = 1 AND is_moving = 1 AND arrives_at > '2099-01-01'": "1",
	} {
		for _, w := range x.both {
			if got := w.value(query); got != want {
				t.Errorf("%s: %s: %s, want %s", w.name, query, got, want)
			}
		}
	}
	// A battle on arrival: two enemies, the first of whom is killed by anything.
	x.sql("UPDATE units SET province_id = 10, hp = 1 WHERE id IN (8, 9)", "DELETE FROM diplomacy", "UPDATE units SET is_moving = 1, target_id = 10, arrives_at = '2020-01-01 00:00:00', hp = 100 WHERE id = 1")
	for _, w := range x.both {
		if err := w.cron(); err != nil {
			t.Fatal(err)
		}
		if got := w.value("SELECT COUNT(*) FROM battles WHERE attacker_id = 1 AND defender_id IN (8, 9) AND client_ref = ''"); got != "2" {
			t.Errorf("%s: %s battles", w.name, got)
		}
		if got := w.value("SELECT defender_id FROM battles ORDER BY id LIMIT 1"); got != "8" {
			t.Errorf("%s: the first enemy is %s", w.name, got)
		}
		if got := w.value("SELECT owner_id FROM provinces WHERE id = 10"); got != "1" {
			t.Errorf("%s: province 10 is %s's", w.name, got)
		}
		if got := w.value("SELECT COUNT(*) FROM units WHERE id IN (8, 9)"); got != "0" {
			t.Errorf("%s: %s of the dead remain", w.name, got)
		}
	}
	x.sql("DELETE FROM battles", "UPDATE units SET hp = 100, experience = '' WHERE id = 1", "UPDATE players SET score = 0")
	x.compareRows("after a battle on arrival")
}

func (x *twins) runCron(name string) {
	x.t.Helper()
	for _, w := range x.both {
		if err := w.cron(); err != nil {
			x.t.Fatal(err)
		}
	}
	x.compareRows(name)
}
