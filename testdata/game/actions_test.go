package game_test

import (
	"fmt"
	"strings"
	"testing"

	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// TestActionsWrite shows what each action answers and which tables it changes, by form
// and by JSON, behind both front ends.
func TestActionsWrite(t *testing.T) {
	t.Run("php -S", func(t *testing.T) { actionsWrite(t, newWorld(t)) })
	t.Run("nginx and php-fpm", func(t *testing.T) {
		w := seeded(t)
		fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 4, Env: w.at.Env(t.TempDir(), true)})
		w.url = lab.NginxPHP(t, fpm, game.Root())
		actionsWrite(t, w)
	})
}

// action is one row of the contract. Its fields are name=value, words quoted in JSON.
type action struct {
	page, name string
	fields     []string
	msg, tail  string // of the redirect: msg=…, and what stands before it, %d for the id
	writes     string
	mark       string // the client_ref in the row that was written
}

func actionsWrite(t *testing.T, w *world) {
	b := w.login(1)
	w.exec("DELETE FROM diplomacy")
	w.exec("UPDATE provinces SET level = 1")
	for _, byForm := range []bool{true, false} {
		// a world of which the ids are known
		w.exec("DELETE FROM units WHERE player_id = 1 AND id NOT IN (1, 7)")
		w.exec("UPDATE units SET is_moving = 0, target_id = 0, hp = 100, player_id = IF(id = 2, 2, 1), province_id = 1 WHERE id IN (1, 2, 7)")
		w.exec("REPLACE INTO units SET id = 900, match_id = 1, player_id = 1, province_id = 1, hp = 100, orders = 'a:0:{}'")
		w.exec("REPLACE INTO trades (id, match_id, seller_id, give_type, give_amount, want_type, want_amount) VALUES (900, 1, 2, 'gold', 5, 'wood', 5), (901, 1, 1, 'gold', 5, 'wood', 5)")
		w.exec("REPLACE INTO messages SET id = 900, match_id = 1, from_id = 2, to_id = 1, subject = 's', body = 'b'")
		w.exec("UPDATE resources SET gold = 5000, wood = 5000, iron = 5000")
		for _, a := range []action{
			{"unit", "move", []string{"unit=1", "to=3"}, "moved", "&id=1", "units action_log", "SELECT client_ref FROM units WHERE id = 1 AND target_id = 3"},
			{"unit", "attack", []string{"unit=7", "target=2"}, "attacked", "&id=7&battle=%d", "players units battles action_log", "SELECT client_ref FROM units WHERE id = 7 AND experience > 0"},
			{"unit", "recruit", []string{"province=1", "type=scout"}, "recruited", "&id=%d", "resources units action_log", "SELECT client_ref FROM units WHERE player_id = 1 ORDER BY id DESC LIMIT 1"},
			{"unit", "orders", []string{"unit=7", "stance=flee"}, "ordered", "&id=7", "units action_log", "SELECT client_ref FROM units WHERE id = 7 AND orders LIKE '%flee%'"},
			{"unit", "disband", []string{"unit=900"}, "disbanded", "", "units action_log", ""},
			{"province", "build", []string{"province=1"}, "built", "&id=1", "resources provinces action_log", "SELECT client_ref FROM provinces WHERE id = 1"},
			{"market", "offer", []string{"give_type=gold", "give_amount=5", "want_type=wood", "want_amount=7"}, "offered", "&id=%d", "resources trades action_log", "SELECT client_ref FROM trades WHERE id NOT IN (900, 901) ORDER BY id DESC LIMIT 1"},
			{"market", "accept", []string{"trade=900"}, "accepted", "", "resources trades action_log", "SELECT client_ref FROM trades WHERE id = 900 AND buyer_id = 1"},
			{"market", "cancel", []string{"trade=901"}, "cancelled", "", "trades action_log", "SELECT client_ref FROM trades WHERE id = 901 AND status = 2"},
			{"market", "give", []string{"to=2", "type=iron", "amount=3"}, "given", "", "resources action_log", ""},
			{"diplomacy", "declare", []string{"other=3", "status=war"}, "declared", "", "diplomacy action_log", "SELECT client_ref FROM diplomacy WHERE player_id = 3 AND other_id = 1"},
			{"messages", "send", []string{"to=2", "subject=Hallo", "body=Welt"}, "sent", "", "messages action_log", "SELECT client_ref FROM messages ORDER BY id DESC LIMIT 1"},
			{"messages", "delete", []string{"message=900"}, "deleted", "", "messages action_log", ""},
		} {
			if byForm {
				w.checkForm(b, a)
			} else {
				w.checkJSON(b, a)
			}
		}
	}
}

func (w *world) checkForm(b *browser, a action) {
	w.t.Helper()
	w.exec(anHourAgo)
	var got answer
	ref := "form-" + a.name
	writes := w.writes(func() { got = b.form(a.page, a.name, strings.Join(append(a.fields, "client_ref="+ref), "&")) })
	prefix := "index.php?page=" + a.page + "&match=1" + strings.TrimSuffix(a.tail, "%d")
	if got.status != 302 || !strings.HasPrefix(got.location, prefix) || !strings.HasSuffix(got.location, "&msg="+a.msg) {
		w.t.Errorf("form %s: %d %q, want %s…&msg=%s", a.name, got.status, got.location, prefix, a.msg)
	}
	w.checkWritten("form", a, writes, ref)
}

func (w *world) checkJSON(b *browser, a action) {
	w.t.Helper()
	w.exec(anHourAgo)
	ref := "json-" + a.name
	fields := fmt.Sprintf(`"client_ref":%q`, ref)
	for _, f := range a.fields {
		name, value, _ := strings.Cut(f, "=")
		if strings.Trim(value, "0123456789") != "" {
			value = `"` + value + `"`
		}
		fields += `,"` + name + `":` + value
	}
	var got answer
	writes := w.writes(func() { got = b.json(a.name, fields) })
	begin := `{"ok":true,"msg":"` + a.msg + `",`
	if a.tail != "" {
		id, _, _ := strings.Cut(strings.TrimPrefix(a.tail, "&id="), "&")
		begin += `"id":` + strings.TrimSuffix(id, "%d")
	}
	if got.status != 200 || !strings.HasPrefix(got.body, begin) {
		w.t.Errorf("json %s: %d %s, want %s", a.name, got.status, got.body, begin)
	}
	w.checkWritten("json", a, writes, ref)
}

func (w *world) checkWritten(how string, a action, writes, ref string) {
	w.t.Helper()
	if writes != a.writes {
		w.t.Errorf("%s %s writes %q, want %q", how, a.name, writes, a.writes)
	}
	if a.mark != "" && w.value(a.mark) != ref {
		w.t.Errorf("%s %s leaves client_ref %q, want %q", how, a.name, w.value(a.mark), ref)
	}
	if n := w.number("SELECT COUNT(*) FROM action_log WHERE match_id = 1 AND player_id = 1 AND action = ? AND client_ref = ?", a.name, ref); n != 1 {
		w.t.Errorf("%s %s is in the action log %g times", how, a.name, n)
	}
}

// Administrators set the environment in the pool or, as here, in nginx.
func TestConfiguredByFastCGI(t *testing.T) {
	w := seeded(t)
	var params strings.Builder
	for name, value := range w.at.Env(t.TempDir(), true) {
		fmt.Fprintf(&params, "fastcgi_param %s %q;\n", name, value)
	}
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: game.Root(), Workers: 1})
	conf := lab.NginxPHPConf(fpm.Socket, game.Root())
	w.url = lab.Nginx(t, strings.Replace(conf, "fastcgi_pass ", params.String()+"fastcgi_pass ", 1)).URL
	w.login(1)
}
