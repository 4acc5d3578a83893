package standin

import (
	_ "embed"
	"net/http"
	"path"
	"slices"
)

//go:embed style.css
var style []byte

// files serves what is no script.
func files(w http.ResponseWriter, r *http.Request) {
	if path.Clean("/"+r.URL.Path) != "/style.css" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/css")
	_, _ = w.Write(style)
}

var pages = map[string]func(*script){
	"map": (*script).mapPage, "unit": (*script).unitPage, "province": (*script).provincePage, "market": (*script).marketPage,
	"diplomacy": (*script).diplomacyPage, "messages": (*script).messagesPage, "ranking": (*script).rankingPage,
}

// index is index.php.
func (s *script) index() {
	s.whoIs()
	page := "login"
	if s.player != nil {
		page = "map"
	}
	page = s.input("page", page)
	action := s.input("action", "")
	if page == "login" {
		s.loginPage(action)
		return
	}
	if s.player == nil {
		s.redirect("index.php?page=login&err=login")
		return
	}
	if !same(s.input("match", s.player["match_id"]), s.player["match_id"]) {
		s.errorPage("error", "match")
		return
	}
	if pages[page] == nil {
		page = "map"
	}
	var preview *preview
	if action != "" {
		home := page // the page in the URL does not have to fit
		if a, ok := actions[action]; ok {
			home = a.page
		}
		done := s.act(action, formFields{s})
		if done.refuse != "" {
			s.errorPage(home, done.refuse)
			return
		}
		if done.preview == nil {
			s.redirect(s.where(home, done))
			return
		}
		preview, page = done.preview, home
	}
	s.countView()
	if preview != nil {
		s.inbox(preview)
		return
	}
	pages[page](s)
}

// where is the page that an action leads to.
func (s *script) where(home string, done result) string {
	url := "index.php?page=" + home + "&match=" + s.player["match_id"]
	if done.id != "" {
		url += "&id=" + done.id
	}
	if done.battle != "" {
		url += "&battle=" + done.battle
	}
	if done.err != "" {
		return url + "&err=" + done.err
	}
	return url + "&msg=" + done.msg
}

// api is api.php.
func (s *script) api() {
	s.whoIs()
	fail := func(code string) { s.json(object{{"ok", false}, {"error", code}}) }
	var in fields = queryFields{s}
	if s.method == http.MethodPost {
		decoded, ok := decode(s.body)
		if !ok {
			fail("badjson")
			return
		}
		in = jsonFields{decoded}
	}
	if s.player == nil {
		fail("login")
		return
	}
	if match := in.val("match"); match != "" && !same(match, s.player["match_id"]) {
		fail("match")
		return
	}
	action := in.val("action")
	if s.method != http.MethodPost {
		if poll, ok := polls[action]; ok {
			poll(s)
			return
		}
		fail("badaction")
		return
	}
	done := s.act(action, in)
	switch {
	case done.refuse != "":
		fail(done.refuse)
	case done.err != "":
		fail(done.err)
	case done.preview != nil:
		s.json(object{{"ok", true}, {"preview", object{{"to", done.preview.to}, {"subject", done.preview.subject}, {"body", done.preview.body}}}})
	default:
		s.json(s.doneJSON(done))
	}
}

func (s *script) doneJSON(done result) object {
	out := object{{"ok", true}, {"msg", done.msg}}
	if done.id != "" {
		out = append(out, member{"id", toInt(done.id)})
	}
	if done.battle != "" {
		out = append(out, member{"battle", toInt(done.battle)})
	}
	return append(out, member{"server_time", s.now()})
}

// queryFields is $_GET alone.
type queryFields struct{ s *script }

func (f queryFields) val(name string) string { v, _ := f.s.url.Get(name); return v }
func (f queryFields) has(name string) bool   { _, ok := f.s.url.Get(name); return ok }
func (f queryFields) ref() string            { return f.val("client_ref") }

func (s *script) json(out object) {
	s.set("Content-Type", "application/json")
	s.set("Cache-Control", "no-store")
	if s.err == nil {
		encode(&s.out, out)
	}
}

/* ---- actions ---- */

// result is what became of an action: done, or not with the player told where it was, or refused with a page.
type result struct {
	msg, err, refuse string
	id, battle       string
	preview          *preview
}

type preview struct{ to, subject, body string }

type action struct {
	page string
	do   func(*script, fields, string) result
}

var actions = map[string]action{
	"move": {"unit", (*script).move}, "attack": {"unit", (*script).attack}, "recruit": {"unit", (*script).recruit},
	"orders": {"unit", (*script).orders}, "disband": {"unit", (*script).disband},
	"build": {"province", (*script).build},
	"offer": {"market", (*script).offer}, "accept": {"market", (*script).accept}, "cancel": {"market", (*script).cancel}, "give": {"market", (*script).give},
	"declare": {"diplomacy", (*script).declare},
	"send":    {"messages", (*script).send}, "delete": {"messages", (*script).deleteMessage},
}

func (s *script) act(name string, in fields) result {
	a, ok := actions[name]
	if !ok {
		return result{refuse: "badaction"}
	}
	if !s.tokenOK(token(in)) {
		return result{refuse: "token"}
	}
	return a.do(s, in, clientRef(in.ref()))
}

// token has to be a string, also in JSON.
func token(in fields) string {
	if j, ok := in.(jsonFields); ok {
		t, _ := j.get("token").(string)
		return t
	}
	return in.val("token")
}

func oneOf(list []string, s string) bool { return slices.Contains(list, s) }
