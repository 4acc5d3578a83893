package standin

import (
	"math"
	"strconv"
)

var messagesDone = map[string]string{
	"welcome": "Welcome back, my lord.", "bye": "Farewell.", "moved": "The unit is on its way.", "attacked": "The battle is fought.",
	"recruited": "A new unit stands ready.", "ordered": "The orders are given.", "disbanded": "The unit went home.", "built": "The province has grown.",
	"offered": "Your offer hangs in the market.", "accepted": "A good deal.", "cancelled": "The offer is withdrawn.", "given": "They will be grateful.",
	"declared": "The heralds are on their way.", "sent": "The message is sent.", "deleted": "The message is burned.",
}

var messagesError = map[string]string{
	"login": "Please log in.", "password": "Wrong name or password.", "token": "The form is too old, please reload.", "match": "That is not your match.",
	"badaction": "Nobody knows how to do that.", "nounit": "There is no such unit.", "notyours": "That is not yours.", "noprovince": "There is no such province.",
	"moving": "The unit is on a journey.", "there": "The unit is already there.", "far": "That is too far away.", "gone": "Too late, it is gone.", "own": "That is your own.",
	"apart": "They are not in the same place.", "friends": "You are at peace.", "poor": "You cannot pay that.", "sellerpoor": "The seller cannot deliver.",
	"full": "You have too many already.", "max": "It cannot grow any further.", "badtype": "There is no such thing.", "badamount": "That is no amount.",
	"badstance": "There is no such stance.", "badstatus": "There is no such relation.", "noplayer": "There is no such player.", "notrade": "There is no such offer.",
	"empty": "Please write something.",
}

func (s *script) pageHeader(page, title string) {
	s.set("Content-Type", "text/html; charset=utf-8")
	s.print("<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n<title>", h(title), " - Provinces &amp; Purses</title>\n<link rel=\"stylesheet\" href=\"style.css\">\n</head>\n")
	if s.player != nil {
		s.playersHeader(page)
	} else {
		s.print(`<body data-page="`, h(page), "\">\n")
	}
	if m, ok := messagesDone[s.input("msg", "")]; ok {
		s.print(`<div class="msg">`, m, "</div>\n")
	}
	err := s.input("err", "")
	if m, ok := messagesError[err]; ok {
		s.print(`<div class="error" data-error="`, err, `">`, m, "</div>\n")
	}
	s.print("<h1>", h(title), "</h1>\n")
}

func (s *script) playersHeader(page string) {
	m := s.player["match_id"]
	s.print(`<body data-page="`, h(page), `" data-match="`, m, `" data-player="`, s.player["id"], "\">\n<div id=\"nav\">\n")
	for _, p := range []string{"map", "unit", "market", "diplomacy", "messages", "ranking"} {
		s.print(`<a href="index.php?page=`, p, `&amp;match=`, m, `">`, ucfirst(p), "</a>\n")
	}
	if unread := s.unread(); toInt(unread) != 0 {
		s.print(`<span id="unread">`, unread, "</span>\n")
	}
	s.print("<a href=\"index.php?page=login&amp;action=logout\">Log out</a>\n</div>\n")
	r := s.purse(s.player["id"])
	s.print(`<div id="purse">Gold <b id="gold">`, whole(r.stock["gold"]), `</b> Wood <b id="wood">`, whole(r.stock["wood"]), `</b> Iron <b id="iron">`, whole(r.stock["iron"]), "</b></div>\n",
		s.tokenField(), "\n")
}

func whole(stock float64) string { return floatText(math.Floor(stock)) }

func (s *script) pageFooter() {
	s.print(`<div id="footer">&copy; 2009-`, strconv.Itoa(s.game.clock().UTC().Year()), " Provinces &amp; Purses</div>\n</body>\n</html>\n")
}

func (s *script) errorPage(page, code string) {
	s.pageHeader(page, "Sorry")
	m, ok := messagesError[code]
	if !ok {
		m = h(code)
	}
	s.print(`<div class="error" data-error="`, h(code), `">`, m, "</div>\n")
	s.pageFooter()
}

func (s *script) tokenField() string {
	return `<input type="hidden" name="token" value="` + s.session.token + `">`
}

func (s *script) formStart(page, action string) string {
	return `<form class="` + action + `" method="post" action="index.php?page=` + page + `&amp;action=` + action + `">` +
		`<input type="hidden" name="match" value="` + s.player["match_id"] + `"><input type="hidden" name="client_ref" value="">` + s.tokenField()
}

func selection(name string, options []string) string {
	t := `<select name="` + name + `">`
	for _, o := range options {
		t += "<option>" + h(o) + "</option>"
	}
	return t + "</select>"
}
