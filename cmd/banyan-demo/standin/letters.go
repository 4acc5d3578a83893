package standin

func (s *script) declare(in fields, ref string) result {
	other := s.otherPlayer(in.val("other"))
	if other == nil {
		return result{refuse: "noplayer"}
	}
	status := in.val("status")
	if !oneOf(relations, status) {
		return result{refuse: "badstatus"}
	}
	if other["id"] == s.player["id"] {
		return result{err: "own"}
	}
	for _, p := range [][2]string{{s.player["id"], other["id"]}, {other["id"], s.player["id"]}} {
		s.exec("DELETE FROM diplomacy WHERE player_id = " + id(p[0]) + " AND other_id = " + id(p[1]))
		s.exec("INSERT INTO diplomacy (match_id, player_id, other_id, status, since, client_ref) VALUES (" +
			id(s.player["match_id"]) + ", " + id(p[0]) + ", " + id(p[1]) + ", " + quote(status) + ", " + now + ", " + quote(ref) + ")")
	}
	s.log("declare", ref)
	return result{msg: "declared"}
}

func (s *script) send(in fields, ref string) result {
	to := s.otherPlayer(in.val("to"))
	if to == nil {
		return result{refuse: "noplayer"}
	}
	subject, body := trim(in.val("subject")), trim(in.val("body"))
	if subject == "" || body == "" {
		return result{refuse: "empty"}
	}
	if in.has("preview") {
		return result{preview: &preview{to["name"], subject, body}}
	}
	s.exec("INSERT INTO messages (match_id, from_id, to_id, subject, body, sent_at, client_ref) VALUES (" + id(s.player["match_id"]) + ", " + id(s.player["id"]) + ", " + id(to["id"]) + ", " +
		quote(latin1(subject, 80)) + ", " + quote(latin1(body, 65535)) + ", " + now + ", " + quote(ref) + ")")
	s.log("send", ref)
	return result{msg: "sent"}
}

func (s *script) deleteMessage(in fields, ref string) result {
	m := s.row("SELECT id FROM messages WHERE id = " + id(in.val("message")) + " AND to_id = " + id(s.player["id"]))
	if m == nil {
		return result{err: "gone"}
	}
	s.exec("DELETE FROM messages WHERE id = " + id(m["id"]))
	s.log("delete", ref)
	return result{msg: "deleted"}
}
