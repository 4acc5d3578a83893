package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"banyan/testdata/game"
	"banyan/testdata/lab"
)

// gameRate is the requests a second of the open loop.
const gameRate = 100

// runGame compares nginx and banyan before the php-fpm that runs the game of testdata/game, with its database: as fast
// as it answers, and in an open loop.
func (b *bench) runGame() error {
	ctx := context.Background()
	maria, err := lab.StartMariaDB(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer maria.Stop()
	if err := errors.Join(b.pin(maria.Pid()), maria.Create(ctx, "game")); err != nil {
		return err
	}
	db := game.DB{Addr: maria.Addr, Socket: maria.Socket, User: maria.User, Password: maria.Password, Name: "game"}
	if err := game.Seed(ctx, db, game.Size{}); err != nil {
		return err
	}
	sessions := filepath.Join(b.dir, "sessions")
	if err := os.Mkdir(sessions, 0o700); err != nil {
		return err
	}
	fpm, err := b.startPHP(game.Root(), db.Env(sessions, true))
	if err != nil {
		return err
	}
	defer fpm.Stop()
	file := filepath.Join(b.dir, "players.json")
	if err := b.writePlayers(file, fpm); err != nil {
		return err
	}
	return b.compareFronts("the game", &scripts{fpm, []string{"nginx", "banyan", dialed}, []scriptLoad{
		{"saturated", []string{"-scripts", file, "-dur", b.dur.String()}},
		{fmt.Sprintf("%d/s", gameRate), []string{"-scripts", file, "-dur", (5 * b.dur).String(), "-rate", fmt.Sprint(gameRate)}},
	}})
}

// writePlayers logs a player in for each connection, and writes what each asks.
func (b *bench) writePlayers(file string, fpm *lab.PHPFPMServer) error {
	addr, _, end, err := b.startFront("nginx", fpm)
	defer end()
	if err != nil {
		return err
	}
	var all [][]exchange
	for n := range phpConns {
		script, err := player("http://"+addr+"/", n+1)
		if err != nil {
			return fmt.Errorf("player %d: %w", n+1, err)
		}
		at := n % len(script) // not all ask for the same at a time
		all = append(all, append(script[at:], script[:at]...))
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// player logs the n-th one of the first match in, and gives what it asks over and over: two pages, the API, and an order
// to one of its units.
func player(base string, n int) ([]exchange, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	c := &http.Client{Jar: jar}
	token, err := find(c, base+"index.php?page=login", `name="token" value="([^"]+)"`)
	if err != nil {
		return nil, err
	}
	resp, err := c.PostForm(base+"index.php?page=login&action=login", url.Values{"name": {game.Login(1, n)}, "password": {game.Password}, "token": {token}})
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	if token, err = find(c, base+"index.php?page=unit&match=1", `name="token" value="([^"]+)"`); err != nil {
		return nil, err
	}
	unit, err := find(c, base+"api.php?action=units", `"id":(\d+)`)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	var cookies []string
	for _, k := range jar.Cookies(u) {
		cookies = append(cookies, k.String())
	}
	ask := func(method, path, body string) []byte {
		return request(method, path, "game.test", strings.Join(cookies, "; "), "application/x-www-form-urlencoded", body)
	}
	page := func(name string) exchange {
		return exchange{Request: ask("GET", "/index.php?page="+name+"&match=1", ""), Status: 200, Want: fmt.Appendf(nil, `<body data-page="%s" data-match="1" data-player="%d">`, name, n)}
	}
	order := url.Values{"match": {"1"}, "token": {token}, "unit": {unit}, "stance": {"flee"}}.Encode()
	return []exchange{
		page("map"), page("unit"),
		{Request: ask("GET", "/api.php?action=units&match=1", ""), Status: 200, Want: fmt.Appendf(nil, `"player":%d,`, n)},
		{Request: ask("POST", "/index.php?page=unit&action=orders", order), Status: 302, Field: []byte("&msg=ordered")},
	}, nil
}

// find gives what the first group of a pattern matches in an answer.
func find(c *http.Client, url, pattern string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(pattern).FindSubmatch(text)
	if m == nil {
		return "", fmt.Errorf("%s: %s without %s: %.300q", url, resp.Status, pattern, text)
	}
	return string(m[1]), nil
}
