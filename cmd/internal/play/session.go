package play

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds what is read of one answer.
const maxBody = 8 << 20

// Session is one browser: a cookie jar and, after Login, a player. It is for one
// goroutine, as a browser's tab is for one person; two of them with one login are two
// browsers.
type Session struct {
	base   *url.URL
	host   string
	client *http.Client
	seen   func(Exchange)

	Player int    // id, after Login
	Match  int    // the player's match, after Login
	Token  string // what writes must carry
}

// Exchange is one request as its sender saw it.
type Exchange struct {
	Endpoint string // for example "page map", "form move", "json move", "api units"
	ServedBy string // Banyan-Served-By, "legacy" if absent
	Took     time.Duration
	Refusal  string // the code of a refusal, "" if there was none
	Err      error  // the answer never came, or is not what the contract says
}

// NewSession is a browser without cookies. Host replaces the Host field if it is not
// empty; a nil transport is http.DefaultTransport; seen, which may be nil, hears of every request.
func NewSession(baseURL, host string, transport http.RoundTripper, seen func(Exchange)) (*Session, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" {
		return nil, fmt.Errorf("base URL %q: want http://host:port", baseURL)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, fmt.Errorf("cookie jar: %w", err)
	}
	if seen == nil {
		seen = func(Exchange) {}
	}
	return &Session{base: base, host: host, seen: seen, client: &http.Client{
		Transport:     transport,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Move sends what follows to another address, as when a proxy is put in front: cookies and login stay.
func (s *Session) Move(baseURL string) error {
	base, err := url.Parse(baseURL)
	if err != nil || base.Host == "" {
		return fmt.Errorf("base URL %q: want http://host:port", baseURL)
	}
	s.base = base
	return nil
}

// Answer is a whole response.
type Answer struct {
	Status   int
	Header   http.Header
	Body     []byte
	ServedBy string
	Took     time.Duration
}

// Send asks for a path and query, with a body if contentType is not empty, and
// follows no redirect. It is not counted.
func (s *Session) Send(ctx context.Context, method, target, contentType, body string) (Answer, error) {
	ref, err := url.Parse(target)
	if err != nil {
		return Answer{}, fmt.Errorf("target %q: %w", target, err)
	}
	var reader io.Reader
	if contentType != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base.ResolveReference(ref).String(), reader)
	if err != nil {
		return Answer{}, fmt.Errorf("request for %q: %w", target, err)
	}
	req.GetBody = nil // a write is sent once
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if s.host != "" {
		req.Host = s.host
	}
	start := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{Took: time.Since(start)}, err
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header, ServedBy: resp.Header.Get("Banyan-Served-By")}
	if a.ServedBy == "" {
		a.ServedBy = "legacy"
	}
	a.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	a.Took = time.Since(start)
	if err != nil {
		return a, fmt.Errorf("body of %q: %w", target, err)
	}
	return a, nil
}

var (
	tokenField = regexp.MustCompile(`name="token" value="([^"]+)"`)
	bodyTag    = regexp.MustCompile(`<body data-page="([a-z]+)"(?: data-match="(\d+)" data-player="(\d+)")?>`)
	errorBox   = regexp.MustCompile(`<div class="error" data-error="([a-z]+)">`)
)

// Login fills in the login form. A refused login is an error.
func (s *Session) Login(ctx context.Context, name, password string) error {
	form, err := s.Send(ctx, "GET", "index.php?page=login", "", "")
	token := tokenField.FindSubmatch(form.Body)
	if err == nil && (form.Status != http.StatusOK || token == nil) {
		err = fmt.Errorf("no login form: status %d, %s", form.Status, excerpt(form.Body))
	}
	s.tell("page login", form, "", err)
	if err != nil {
		return err
	}
	fields := url.Values{"name": {name}, "password": {password}, "token": {string(token[1])}}
	a, err := s.post(ctx, "index.php?page=login&action=login", fields)
	if err == nil && !strings.Contains(a.Header.Get("Location"), "msg=welcome") {
		err = fmt.Errorf("login of %s: status %d, location %q, %s", name, a.Status, a.Header.Get("Location"), excerpt(a.Body))
	}
	s.tell("form login", a, "", err)
	if err != nil {
		return err
	}
	s.Player, s.Match = 0, 0 // another player's, perhaps
	home, err := s.follow(ctx, a)
	if err != nil {
		return err
	}
	tag := bodyTag.FindSubmatch(home.Body)
	token = tokenField.FindSubmatch(home.Body)
	if tag == nil || len(tag[2]) == 0 || token == nil {
		return fmt.Errorf("page after login: %s", excerpt(home.Body))
	}
	s.Match, _ = strconv.Atoi(string(tag[2]))
	s.Player, _ = strconv.Atoi(string(tag[3]))
	s.Token = string(token[1])
	return nil
}

// Page looks at a page; query may be nil.
func (s *Session) Page(ctx context.Context, page string, query url.Values) (Answer, error) {
	q := url.Values{"page": {page}, "match": {strconv.Itoa(s.Match)}}
	for k, v := range query {
		q[k] = v
	}
	a, refusal, err := s.look(ctx, page, "index.php?"+q.Encode())
	s.tell("page "+page, a, refusal, err)
	return a, err
}

func (s *Session) look(ctx context.Context, page, target string) (a Answer, refusal string, err error) {
	a, err = s.Send(ctx, "GET", target, "", "")
	if err == nil {
		refusal, err = s.checkPage(page, a)
	}
	return a, refusal, err
}

// checkPage judges a page by what its reader would notice first: whose it is.
func (s *Session) checkPage(page string, a Answer) (refusal string, err error) {
	if a.Status != http.StatusOK {
		return "", fmt.Errorf("page %s: status %d, location %q", page, a.Status, a.Header.Get("Location"))
	}
	tag := bodyTag.FindSubmatch(a.Body)
	if tag == nil || string(tag[1]) != page || (s.Player != 0 && string(tag[3]) != strconv.Itoa(s.Player)) {
		return "", fmt.Errorf("page %s is another one: %s", page, excerpt(a.Body))
	}
	if !bytes.Contains(a.Body, []byte("</html>")) {
		return "", fmt.Errorf("page %s ends early after %d bytes", page, len(a.Body))
	}
	if box := errorBox.FindSubmatch(a.Body); box != nil {
		refusal = string(box[1])
	}
	return refusal, nil
}

// follow goes where a redirect points. The page repeats the refusal of the request
// before it; it is not refused itself.
func (s *Session) follow(ctx context.Context, a Answer) (Answer, error) {
	location, err := url.Parse(a.Header.Get("Location"))
	if err != nil {
		return Answer{}, fmt.Errorf("location %q: %w", a.Header.Get("Location"), err)
	}
	page := location.Query().Get("page")
	a, _, err = s.look(ctx, page, location.String())
	s.tell("page "+page, a, "", err)
	return a, err
}

// Result is what became of an action.
type Result struct {
	Msg     string // "moved" and so on; empty if it was refused
	ID      int    // the unit, province or new trade, 0 if the answer names none
	Refusal string // the code
	Page    Answer // for a form that was answered with a redirect: the page behind it
}

// Form does an action as the form in the page does it, and follows the redirect. An
// error means that nobody knows whether it was done; a refusal is no error.
func (s *Session) Form(ctx context.Context, page, action string, fields url.Values) (Result, error) {
	f := url.Values{"match": {strconv.Itoa(s.Match)}, "token": {s.Token}}
	for k, v := range fields {
		f[k] = v
	}
	a, err := s.post(ctx, "index.php?page="+url.QueryEscape(page)+"&action="+url.QueryEscape(action), f)
	var r Result
	if err == nil {
		r, err = s.formResult(a)
	}
	s.tell("form "+action, a, r.Refusal, err)
	if err != nil || a.Status != http.StatusFound {
		return r, err
	}
	// What the page shows is the page's affair: the action has its answer.
	if page, err := s.follow(ctx, a); err == nil {
		r.Page = page
	}
	return r, nil
}

func (s *Session) formResult(a Answer) (Result, error) {
	if a.Status == http.StatusOK {
		if box := errorBox.FindSubmatch(a.Body); box != nil {
			return Result{Refusal: string(box[1])}, nil
		}
		return Result{}, fmt.Errorf("a page that neither redirects nor refuses: %s", excerpt(a.Body))
	}
	location, err := url.Parse(a.Header.Get("Location"))
	if a.Status != http.StatusFound || err != nil {
		return Result{}, fmt.Errorf("status %d, location %q", a.Status, a.Header.Get("Location"))
	}
	q := location.Query()
	r := Result{Msg: q.Get("msg"), Refusal: q.Get("err")}
	r.ID, _ = strconv.Atoi(q.Get("id"))
	if (r.Msg == "") == (r.Refusal == "") {
		return Result{}, fmt.Errorf("location %q tells neither msg nor err", location)
	}
	return r, nil
}

// JSON does an action as the scripts in the page do it.
func (s *Session) JSON(ctx context.Context, action string, fields map[string]any) (Result, error) {
	in := map[string]any{"action": action, "match": s.Match, "token": s.Token}
	for k, v := range fields {
		in[k] = v
	}
	body, err := json.Marshal(in)
	if err != nil {
		return Result{}, fmt.Errorf("fields of %s: %w", action, err)
	}
	a, err := s.Send(ctx, "POST", "api.php", "application/json", string(body))
	var out struct {
		Msg string `json:"msg"`
		ID  number `json:"id"`
	}
	refusal := ""
	if err == nil {
		refusal, err = decode(a, &out)
	}
	if err == nil && refusal == "" && out.Msg == "" {
		err = fmt.Errorf("an answer without msg: %s", excerpt(a.Body))
	}
	s.tell("json "+action, a, refusal, err)
	return Result{Msg: out.Msg, ID: int(out.ID), Refusal: refusal}, err
}

// Poll asks the polling API and decodes the answer into out. A refusal is an error.
func (s *Session) Poll(ctx context.Context, action string, query url.Values, out any) error {
	q := url.Values{"action": {action}, "match": {strconv.Itoa(s.Match)}}
	for k, v := range query {
		q[k] = v
	}
	a, err := s.Send(ctx, "GET", "api.php?"+q.Encode(), "", "")
	refusal := ""
	if err == nil {
		refusal, err = decode(a, out)
	}
	s.tell("api "+action, a, refusal, err)
	if err == nil && refusal != "" {
		err = &refusedError{action, refusal}
	}
	return err
}

type refusedError struct{ action, code string }

func (e *refusedError) Error() string { return fmt.Sprintf("%s is refused: %s", e.action, e.code) }

func decode(a Answer, out any) (refusal string, err error) {
	if a.Status != http.StatusOK || !strings.HasPrefix(a.Header.Get("Content-Type"), "application/json") {
		return "", fmt.Errorf("status %d, type %q: %s", a.Status, a.Header.Get("Content-Type"), excerpt(a.Body))
	}
	var head struct {
		OK    *bool  `json:"ok"`
		Error string `json:"error"`
		Time  *int64 `json:"server_time"`
	}
	if err := json.Unmarshal(a.Body, &head); err != nil || head.OK == nil {
		return "", errors.Join(fmt.Errorf("not an answer of the API: %s", excerpt(a.Body)), err)
	}
	if !*head.OK {
		if head.Error == "" {
			return "", fmt.Errorf("a refusal without a reason: %s", excerpt(a.Body))
		}
		return head.Error, nil
	}
	if head.Time == nil {
		return "", fmt.Errorf("no server_time: %s", excerpt(a.Body))
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		return "", fmt.Errorf("%s: %w", excerpt(a.Body), err)
	}
	return "", nil
}

func (s *Session) post(ctx context.Context, target string, fields url.Values) (Answer, error) {
	return s.Send(ctx, "POST", target, "application/x-www-form-urlencoded", fields.Encode())
}

func (s *Session) tell(endpoint string, a Answer, refusal string, err error) {
	by := a.ServedBy
	if by == "" {
		by = "legacy"
	}
	s.seen(Exchange{Endpoint: endpoint, ServedBy: by, Took: a.Took, Refusal: refusal, Err: err})
}

// excerpt is the beginning of a body, on one line.
func excerpt(body []byte) string {
	const most = 160
	text := strings.Join(strings.Fields(string(body[:min(len(body), 4*most)])), " ")
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strconv.Quote(text)
}

// number is an integer that may come as a string.
type number int64

func (n *number) UnmarshalJSON(b []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(b), `"`), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is no integer", b)
	}
	*n = number(v)
	return nil
}
