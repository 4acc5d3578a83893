package standin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"banyan/legacyadapter/php"
	"banyan/proxy/route"
)

// script is one run of index.php or api.php.
type script struct {
	*db
	game     *Game
	method   string
	url      route.Values // $_GET
	form     route.Values // $_POST
	body     []byte
	sessions *sessions
	session  *session
	player   row // nil without login

	status int
	header http.Header
	out    bytes.Buffer
}

// maxBody is PHP's post_max_size.
const maxBody = 8 << 20

func (g *Game) serve(w http.ResponseWriter, r *http.Request) {
	run, api := which(r.URL.Path)
	if run == nil {
		files(w, r)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "Request Entity Too Large", http.StatusRequestEntityTooLarge)
		return
	}
	s := &script{game: g, method: r.Method, url: php.Params{}.Query(nil, []byte(r.URL.RawQuery)), body: body, status: http.StatusOK, header: http.Header{}, sessions: &g.sessions}
	s.form = php.Params{}.Form(nil, "", nil)
	if r.Method == http.MethodPost {
		s.form = php.Params{}.Form(nil, r.Header.Get("Content-Type"), body)
	}
	s.startSession(strings.Join(r.Header["Cookie"], "; "))
	defer s.session.mu.Unlock()

	id := ""
	if g.cfg.Annotate && writeID.MatchString(r.Header.Get("Banyan-Write")) {
		id = r.Header.Get("Banyan-Write")
	}
	// A script runs on when its client has left.
	s.db = &db{}
	err = g.connected(context.WithoutCancel(r.Context()), id, func(d *db) { s.db = d; run(s) })
	if err != nil {
		g.cfg.Log.Error("game: database", "error", err)
		s.databaseError(api)
	}
	s.answer(w)
}

// which is the script that a path runs, as behind nginx and php-fpm: what follows its name is path info.
func which(p string) (run func(*script), api bool) {
	p = path.Clean("/" + p)
	for name, run := range map[string]func(*script){"/index.php": (*script).index, "/api.php": (*script).api} {
		if p == name || strings.HasPrefix(p, name+"/") {
			return run, name == "/api.php"
		}
	}
	if p == "/" {
		return (*script).index, false
	}
	return nil, false
}

func (s *script) answer(w http.ResponseWriter) {
	for name, values := range s.header {
		w.Header()[name] = values
	}
	w.WriteHeader(s.status)
	_, _ = w.Write(s.out.Bytes()) // a client that has left is no error
}

// databaseError is the end of a script that the database failed: what it had printed stays.
func (s *script) databaseError(api bool) {
	if api {
		s.header.Set("Content-Type", "application/json")
		s.out.WriteString(`{"ok":false,"error":"database"}`)
		return
	}
	s.out.WriteString(`<h1>Sorry</h1><div class="error" data-error="database">The database has a problem. Please try again later.</div>`)
}

// print, set and redirect do nothing once the database has failed, for the script would have ended there.
func (s *script) print(texts ...string) {
	if s.err != nil {
		return
	}
	for _, t := range texts {
		s.out.WriteString(t)
	}
}

func (s *script) set(field, value string) {
	if s.err == nil {
		s.header.Set(field, value)
	}
}

func (s *script) redirect(to string) {
	if s.err == nil {
		s.status = http.StatusFound
		s.header.Set("Location", to)
	}
}

// now is PHP's time().
func (s *script) now() int64 { return s.game.clock().Unix() }

/* ---- what came in ---- */

// get is a parameter: form first, then query.
func (s *script) get(name string) (string, bool) {
	if v, ok := s.form.Get(name); ok {
		return v, true
	}
	return s.url.Get(name)
}

func (s *script) input(name, otherwise string) string {
	if v, ok := s.get(name); ok {
		return v
	}
	return otherwise
}

// fields is where an action finds what it was told.
type fields interface {
	val(name string) string // "" for what is absent or an array
	has(name string) bool
	ref() string // the client_ref, before it is cleaned
}

type formFields struct{ s *script }

func (f formFields) val(name string) string { return f.s.input(name, "") }
func (f formFields) has(name string) bool   { _, ok := f.s.get(name); return ok }
func (f formFields) ref() string            { return f.val("client_ref") }

type jsonFields struct{ object }

func (f jsonFields) has(name string) bool { return f.get(name) != nil }
func (f jsonFields) ref() string          { return text(f.get("client_ref")) }
func (f jsonFields) val(name string) string {
	if v := f.get(name); !isArray(v) {
		return text(v)
	}
	return ""
}

// clientRef is the client_ref without what does not belong there.
func clientRef(s string) string {
	clean := strings.Map(func(r rune) rune {
		if strings.ContainsRune("._-", r) || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, s)
	return clean[:min(len(clean), 40)]
}

/* ---- session ---- */

// startSession finds the browser's session and waits until no other script has it.
func (s *script) startSession(cookies string) {
	cookie, _ := php.Params{}.Cookies(nil, []byte(cookies)).Get("PHPSESSID")
	var fresh bool
	s.session, fresh = s.sessions.start(cookie)
	if fresh {
		s.setSessionCookie()
	}
	s.header.Set("Expires", "Thu, 19 Nov 1981 08:52:00 GMT")
	s.header.Set("Cache-Control", "no-store, no-cache, must-revalidate")
	s.header.Set("Pragma", "no-cache")
	s.header.Set("Content-Type", "text/html; charset=UTF-8")
}

func (s *script) setSessionCookie() {
	s.header.Set("Set-Cookie", "PHPSESSID="+s.session.id+"; path=/")
}

func (s *script) setPlayerCookie(value string, lasts time.Duration) {
	expires := s.game.clock().Add(lasts).UTC()
	if value == "" {
		value, expires, lasts = "deleted", time.Unix(1, 0).UTC(), 0
	}
	s.header.Add("Set-Cookie", "game_uid="+url.QueryEscape(value)+"; expires="+expires.Format("Mon, 02 Jan 2006 15:04:05 GMT")+"; Max-Age="+strconv.Itoa(int(lasts.Seconds()))+"; path=/")
}

// whoIs looks the session's player up.
func (s *script) whoIs() {
	if s.session.player != "" {
		s.player = s.getPlayer(s.session.player)
	}
}

func (s *script) tokenOK(token string) bool { return token != "" && token == s.session.token }

// login gives "", or why not.
func (s *script) login(name, password, token string) string {
	if !s.tokenOK(token) {
		return "token"
	}
	// MariaDB's collation is blind to case and to blanks at the end.
	p := s.row("SELECT * FROM players WHERE lower(name) = lower(rtrim(" + quote(name) + ", ' ')) AND password = " + quote(passwordHash(password)))
	if p == nil {
		return "password"
	}
	s.sessions.rename(s.session)
	s.setSessionCookie()
	s.session.player, s.session.match = p["id"], p["match_id"]
	s.setPlayerCookie(p["id"], 30*24*time.Hour)

	settings := unserialize(p["settings"])
	logins, _ := settings.get("logins").(int64)
	settings = settings.set("logins", logins+1)
	s.exec("UPDATE players SET settings = " + quote(serialize(settings)) + ", last_seen = " + now + " WHERE id = " + id(p["id"]))
	return ""
}

func (s *script) logout() {
	s.sessions.end(s.session)
	s.session.player, s.session.match, s.session.token = "", "", ""
	s.setPlayerCookie("", 0)
}
