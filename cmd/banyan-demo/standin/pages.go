package standin

import "strconv"

func (s *script) loginPage(action string) {
	refused := ""
	switch action {
	case "logout":
		s.logout()
		s.redirect("index.php?page=login&msg=bye")
		return
	case "login":
		if refused = s.login(s.input("name", ""), s.input("password", ""), s.input("token", "")); refused == "" {
			s.redirect("index.php?page=map&match=" + s.session.match + "&msg=welcome")
			return
		}
	}
	s.player = nil
	s.pageHeader("login", "Log in")
	if refused != "" {
		s.print(`<div class="error" data-error="`, refused, `">`, messagesError[refused], "</div>\n")
	}
	s.print("<form id=\"login\" method=\"post\" action=\"index.php?page=login&amp;action=login\">\n", s.tokenField(), "\n",
		`Name <input name="name" value="`, h(s.input("name", "")), `"> Password <input type="password" name="password"> <input type="submit" value="Log in">`, "\n</form>\n")
	s.pageFooter()
}

func (s *script) mapPage() {
	s.pageHeader("map", "Map")
	s.print("<table id=\"map\">\n")
	y := ""
	for _, p := range s.query("SELECT * FROM provinces WHERE match_id = " + id(s.player["match_id"]) + " ORDER BY y, x") {
		if p["y"] != y {
			if y != "" {
				s.print("</tr>\n")
			}
			s.print("<tr>\n")
			y = p["y"]
		}
		owner := s.label(p["owner_id"])
		units := s.count("SELECT COUNT(*) FROM units WHERE province_id = " + id(p["id"]) + " AND hp > 0")
		style, capital := "", ""
		if owner["color"] != "" {
			style = ` style="background: #` + owner["color"] + `"`
		}
		if p.int("is_capital") != 0 {
			capital = " *"
		}
		s.print(`<td class="province" data-id="`, p["id"], `" data-owner="`, p["owner_id"], `" data-units="`, units, `"`, style, `>`,
			`<a href="index.php?page=province&amp;match=`, p["match_id"], `&amp;id=`, p["id"], `">`, h(p["name"]), `</a>`, capital, `<br>`, h(owner["name"]), `<br>`, units, " units</td>\n")
	}
	if y != "" {
		s.print("</tr>\n")
	}
	s.print("</table>\n")
	s.pageFooter()
}

func (s *script) unitRow(u row) {
	stance, _ := stanceOf(u).(string)
	arrives := ""
	if u.int("is_moving") != 0 {
		arrives = "arrives " + u["arrives_at"]
	}
	s.print(`<tr class="unit" data-id="`, u["id"], `" data-province="`, u["province_id"], `" data-target="`, u["target_id"], `" data-hp="`, u["hp"], `" data-ref="`, h(u["client_ref"]), `">`,
		`<td><a href="index.php?page=unit&amp;match=`, u["match_id"], `&amp;id=`, u["id"], `">`, h(u["name"]), `</a></td><td>`, u["type"], `</td><td>`, u["hp"], `</td><td>`,
		decimal(experience(u)), `</td><td>`, stance, `</td><td>`, arrives, "</td></tr>\n")
}

func (s *script) unitPage() {
	s.pageHeader("unit", "Units")
	s.print("<table id=\"units\">\n")
	unit := id(s.input("id", ""))
	if unit == "0" {
		for _, u := range s.query("SELECT * FROM units WHERE player_id = " + id(s.player["id"]) + " AND hp > 0 ORDER BY id") {
			s.unitRow(u)
		}
		s.print("</table>\n")
	} else if u := s.unit(unit); u != nil && u["player_id"] == s.player["id"] && u.int("hp") > 0 {
		s.unitRow(u)
		s.print("</table>\n")
		s.unitForms(u)
	} else {
		s.print("</table>\n<p>It is not there any more.</p>\n")
	}
	s.pageFooter()
}

func (s *script) unitForms(u row) {
	hidden := `<input type="hidden" name="unit" value="` + u["id"] + `">`
	s.print(s.formStart("unit", "move"), hidden, `To province <input name="to"> <input type="submit" value="Move"></form>`, "\n")
	s.print(s.formStart("unit", "attack"), hidden, `<select name="target">`)
	for _, t := range s.query("SELECT id, name FROM units WHERE province_id = " + id(u["province_id"]) + " AND player_id <> " + id(s.player["id"]) + " AND hp > 0 AND is_moving = 0") {
		s.print(`<option value="`, t["id"], `">`, h(t["name"]), `</option>`)
	}
	s.print(`</select> <input type="submit" value="Attack"></form>`, "\n")
	s.print(s.formStart("unit", "orders"), hidden, selection("stance", stances), ` <input type="submit" value="Give orders"></form>`, "\n")
	s.print(s.formStart("unit", "disband"), hidden, `<input type="submit" value="Disband"></form>`, "\n")
}

func (s *script) provincePage() {
	p := s.province(s.input("id", ""))
	if p == nil || p["match_id"] != s.player["match_id"] {
		s.errorPage("province", "noprovince")
		return
	}
	s.tick(s.player["id"]) // so that the numbers at the top are right
	s.pageHeader("province", p["name"])
	ruled, tax := "nobody rules here", "10"
	if owner := s.label(p["owner_id"]); owner["name"] != "" {
		ruled = "ruled by " + h(owner["name"])
	}
	if p["tax"] != "" {
		tax = id(p["tax"])
	}
	s.print(`<div id="province" data-id="`, p["id"], `" data-owner="`, p["owner_id"], `" data-level="`, p["level"], `">Level <b>`, p["level"], `</b>, `, p["terrain"], `, `, ruled, `, tax `, tax, "%</div>\n<ul>\n")
	for _, u := range s.query("SELECT * FROM units WHERE province_id = " + id(p["id"]) + " AND hp > 0 AND is_moving = 0 ORDER BY player_id, id") {
		of := s.label(u["player_id"])
		s.print(`<li class="present" data-id="`, u["id"], `" data-player="`, u["player_id"], `">`, h(u["name"]), ` (`, h(of["name"]), ")</li>\n")
	}
	s.print("</ul>\n")
	if p["owner_id"] == s.player["id"] {
		hidden := `<input type="hidden" name="province" value="` + p["id"] + `">`
		types := make([]string, len(unitTypes))
		for i, t := range unitTypes {
			types[i] = t.name
		}
		s.print(s.formStart("province", "build"), hidden, `<input type="submit" value="Build level `, decimal(p.int("level")+1), `"></form>`, "\n",
			s.formStart("unit", "recruit"), hidden, selection("type", types), ` <input type="submit" value="Recruit"></form>`, "\n")
	}
	s.pageFooter()
}

func (s *script) marketPage() {
	s.pageHeader("market", "Market")
	s.print("<table id=\"trades\">\n")
	for _, t := range s.query("SELECT * FROM trades WHERE match_id = " + id(s.player["match_id"]) + " AND status = 0 ORDER BY id") {
		seller := s.label(t["seller_id"])
		give, want := t["give_amount"]+" "+t["give_type"], t["want_amount"]+" "+t["want_type"]
		s.print(`<tr class="trade" data-id="`, t["id"], `" data-seller="`, t["seller_id"], `" data-give="`, give, `" data-want="`, want, `"><td>`,
			h(seller["name"]), `</td><td>gives `, give, `</td><td>wants `, want, `</td><td>`)
		if t["seller_id"] == s.player["id"] {
			s.print(`<a href="index.php?page=market&amp;action=cancel&amp;match=`, t["match_id"], `&amp;trade=`, t["id"], `&amp;token=`, s.session.token, `">withdraw</a>`)
		} else {
			s.print(s.formStart("market", "accept"), `<input type="hidden" name="trade" value="`, t["id"], `"><input type="submit" value="Accept"></form>`)
		}
		s.print("</td></tr>\n")
	}
	s.print("</table>\n",
		s.formStart("market", "offer"), `I give <input name="give_amount"> `, selection("give_type", goods), ` for <input name="want_amount"> `, selection("want_type", goods), ` <input type="submit" value="Offer"></form>`, "\n",
		s.formStart("market", "give"), `Send <input name="amount"> `, selection("type", goods), ` to player <input name="to"> <input type="submit" value="Send"></form>`, "\n")
	s.pageFooter()
}

func (s *script) diplomacyPage() {
	s.pageHeader("diplomacy", "Diplomacy")
	s.print("<table id=\"relations\">\n")
	for _, d := range s.query("SELECT * FROM diplomacy WHERE player_id = " + id(s.player["id"]) + " ORDER BY other_id") {
		other := s.label(d["other_id"])
		s.print(`<tr class="relation" data-id="`, d["other_id"], `" data-status="`, d["status"], `"><td>`, h(other["name"]), `</td><td>`, d["status"], `</td><td>since `, d["since"], "</td></tr>\n")
	}
	s.print("</table>\n", s.formStart("diplomacy", "declare"), `Player <input name="other"> `, selection("status", relations), ` <input type="submit" value="Declare"></form>`, "\n")
	s.pageFooter()
}

func (s *script) messagesPage() { s.inbox(nil) }

// inbox is the messages page, with a preview of what may be sent if p is not nil.
func (s *script) inbox(p *preview) {
	message := id(s.input("id", ""))
	var open row
	if message != "0" {
		if open = s.row("SELECT * FROM messages WHERE id = " + message + " AND to_id = " + id(s.player["id"])); open != nil {
			s.exec("UPDATE messages SET is_read = 1 WHERE id = " + message)
		}
	}
	s.pageHeader("messages", "Messages")
	if p != nil {
		s.print(`<div class="preview">To `, h(p.to), `: <b>`, h(p.subject), `</b><br>`, nl2br(h(p.body)), "</div>\n")
	}
	if open != nil {
		from := s.label(open["from_id"])
		s.print(`<div id="message" data-id="`, message, `">From `, h(from["name"]), `: <b>`, h(open["subject"]), `</b><br>`, nl2br(h(open["body"])), "</div>\n")
	}
	s.print("<table id=\"messages\">\n")
	for _, m := range s.query("SELECT * FROM messages WHERE to_id = " + id(s.player["id"]) + " ORDER BY id DESC LIMIT 50") {
		from := s.label(m["from_id"])
		s.print(`<tr class="message" data-id="`, m["id"], `" data-read="`, m["is_read"], `"><td><a href="index.php?page=messages&amp;match=`, m["match_id"], `&amp;id=`, m["id"], `">`, h(m["subject"]), `</a></td><td>`,
			h(from["name"]), `</td><td>`, m["sent_at"], `</td><td><a href="index.php?page=messages&amp;action=delete&amp;match=`, m["match_id"], `&amp;message=`, m["id"], `&amp;token=`, s.session.token, "\">burn</a></td></tr>\n")
	}
	s.print("</table>\n", s.formStart("messages", "send"), `To player <input name="to"> <input name="subject"><textarea name="body"></textarea> <input type="submit" name="preview" value="Preview"> <input type="submit" value="Send"></form>`, "\n")
	s.pageFooter()
}

func (s *script) rankingPage() {
	s.pageHeader("ranking", "Ranking")
	s.print("<table id=\"ranking\">\n")
	for i, p := range s.query("SELECT id, name, score, is_npc FROM players WHERE match_id = " + id(s.player["match_id"]) + " ORDER BY score DESC, id") {
		provinces := s.count("SELECT COUNT(*) FROM provinces WHERE owner_id = " + id(p["id"]))
		npc := ""
		if p.int("is_npc") != 0 {
			npc = " (npc)"
		}
		s.print(`<tr class="rank" data-id="`, p["id"], `" data-score="`, p["score"], `"><td>`, strconv.Itoa(i+1), `</td><td>`, h(p["name"]), npc, `</td><td>`, p["score"], `</td><td>`, provinces, " provinces</td></tr>\n")
	}
	s.print("</table>\n")
	s.pageFooter()
}
