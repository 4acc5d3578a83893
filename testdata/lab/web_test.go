package lab_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"banyan/testdata/lab"
)

const script = `<?php
session_start();
$_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;
echo getenv('LAB_WORD'), ' ', ($_SERVER['PATH_INFO'] ?? '') ?: '-', ' ', extension_loaded('mysqli') ? 'mysqli' : 'no mysqli', ' ', $_GET['q'] ?? '';
`

func documentRoot(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "with space")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"index.php": script, "a.css": "css"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func get(t *testing.T, url string) (status int, body, contentType string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header.Get("Content-Type")
}

func TestNginxAndPHPFPMServeScriptsAndFiles(t *testing.T) {
	root := documentRoot(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2, Env: map[string]string{"LAB_WORD": "hello"}})
	url := lab.NginxPHP(t, fpm, root)
	for path, want := range map[string]string{
		"/index.php?q=7":         "hello - mysqli 7",
		"/?q=8":                  "hello - mysqli 8",
		"/index.php/extra/x?q=9": "hello /extra/x mysqli 9",
		"/a.css":                 "css",
	} {
		if status, body, _ := get(t, url+path); status != 200 || body != want {
			t.Errorf("%s: %d %q, want 200 %q", path, status, body, want)
		}
	}
	if _, _, contentType := get(t, url+"/a.css"); contentType != "text/css" {
		t.Errorf("type of a.css is %q", contentType)
	}
	if status, _, _ := get(t, url+"/none.php"); status != 404 {
		t.Errorf("a script that is not there: %d, want 404", status)
	}
	if err := fpm.Crash(); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := get(t, url+"/index.php"); status != 502 {
		t.Errorf("with php-fpm dead: %d, want 502", status)
	}
	if err := fpm.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := get(t, url+"/index.php"); status != 200 {
		t.Errorf("with php-fpm back: %d, want 200", status)
	}
}

func TestApacheAndPHPFPMServeScriptsAndFiles(t *testing.T) {
	root := documentRoot(t)
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2, Env: map[string]string{"LAB_WORD": "hello"}})
	s := lab.Apache(t, lab.ApachePHPConf(fpm.Socket, root))
	for path, want := range map[string]string{
		"/index.php?q=7":         "hello - mysqli 7",
		"/?q=8":                  "hello - mysqli 8",
		"/index.php/extra/x?q=9": "hello /extra/x mysqli 9",
		"/a.css":                 "css",
	} {
		if status, body, _ := get(t, s.URL+path); status != 200 || body != want {
			t.Errorf("%s: %d %q, want 200 %q", path, status, body, want)
		}
	}
	group := s.Pid()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := groupSize(t, group); n != 0 {
		t.Errorf("%d processes are left after the stop", n)
	}
}

func TestPHPServerHasWorkersAndEndsThemAll(t *testing.T) {
	s := lab.PHPServer(t, documentRoot(t), 3, map[string]string{"LAB_WORD": "hi"})
	if status, body, _ := get(t, s.URL+"/index.php?q=1"); status != 200 || !strings.HasPrefix(body, "hi") {
		t.Errorf("%d %q", status, body)
	}
	group := s.Pid()
	if n := groupSize(t, group); n != 4 {
		t.Errorf("%d processes, want one and three workers", n)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := groupSize(t, group); n != 0 {
		t.Errorf("%d processes are left after the stop", n)
	}
}

// groupSize counts the processes of a group that have not ended.
func groupSize(t *testing.T, group int) int {
	t.Helper()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	n := 0
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // ended meanwhile
		}
		_, rest, _ := strings.Cut(string(text), ") ") // after the name: state, parent, group
		if f := strings.Fields(rest); len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(group) {
			n++
		}
	}
	return n
}
