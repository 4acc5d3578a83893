package php

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banyan/proxy/route"
)

func TestCanonical(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/index.php", "/a/": "/a/index.php", "/a": "/a", "/a/b.php?x=/../y": "/a/b.php", "//a//b": "/a/b", "/a/./b": "/a/b", "/a/../b": "/b",
		"/a%2fb": "/a/b", "/%61": "/a", "/x.php/extra/y": "/x.php", "/a%20b": "/a b", "http://h/a.php?q": "/a.php", "http://h?q": "/index.php",
		"/a/..": "/index.php", "/a/.": "/a/index.php", "/.php/x": "/.php/x", "/.php/x.php/y": "/.php/x.php", "/%2e%2e%2fa": "", "/..": "", "/%": "", "/%4": "", "/a%00": "", "": "", "a": "", "/a#b": "",
		"/a%2541": "/a%2541", "/a%3fb": "/a%3Fb", "/a%23": "/a%23", "*": "*", "/a%0a": "",
	} {
		got, _, err := Nginx{}.Canonical([]byte(target))
		if got != want || (want == "") != errors.Is(err, ErrTarget) {
			t.Errorf("%q -> %q, %v; want %q", target, got, err, want)
		}
	}
	if _, q, _ := (Nginx{}).Canonical([]byte("/a?b=c?d")); string(q) != "b=c?d" {
		t.Errorf("query %q", q)
	}
}

func TestCanonicalWithoutFilesOfPHP(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/", "/a/": "/a/", "/a.php/b": "/a.php/b", "/%61b": "/ab", "/a%2541": "/a%2541", "/a%3Fb?q": "/a%3Fb", "/a;b=c": "/a;b=c", "/é": "/é", "/%C3%A9": "/é", "/...": "/...", "/a..b/.c": "/a..b/.c",
		"//a": "", "/a//b": "", "/./a": "", "/a/..": "", "/%2e/a": "", "/a%2fb": "", "/a%5cb": "", "/a\\b": "", "/a%00": "", "/a%0d": "", "/%zz": "", "/%": "",
	} {
		got, _, err := None{}.Canonical([]byte(target))
		if got != want || (want == "") != errors.Is(err, ErrTarget) {
			t.Errorf("%q -> %q, %v; want %q", target, got, err, want)
		}
	}
}

func ExampleNginx_Resolve() {
	t, _ := Nginx{}.Resolve([]byte("/shop/%2e/cart.php/items%252f7?x=1"))
	fmt.Printf("%s\n%s\n%s\n%s\n", t.Path, t.Script, t.PathInfo, t.Query)
	// Output:
	// /shop/cart.php
	// /shop/cart.php
	// /items%2f7
	// x=1
}

func TestServerWantsARoot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, file + "x", ""} {
		if _, err := NewServer(root, ""); err == nil {
			t.Errorf("%q is no document root", root)
		}
	}
	if _, err := NewServer(t.TempDir(), "router.php"); err == nil {
		t.Error("a router is named as a path below the root")
	}
}

func FuzzCanonical(f *testing.F) {
	for _, target := range spellings() {
		f.Add([]byte(target))
	}
	root := f.TempDir()
	for _, name := range []string{"index.php", "x.php", "dir/index.php", "plain"} {
		file := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, nil, 0o644)); err != nil {
			f.Fatal(err)
		}
	}
	bare, _ := NewServer(root, "")
	routed, _ := NewServer(root, "/index.php")
	all := []route.Canonicalizer{Nginx{}, Apache{}, None{}, bare, routed}
	f.Fuzz(func(t *testing.T, target []byte) {
		before := slices.Clone(target)
		for _, c := range all {
			path, query, err := c.Canonical(target)
			if p, ok := c.(route.Plainer); ok {
				if plain, q, ok := p.Plain(target); ok && (string(plain) != path || string(q) != string(query) || err != nil) {
					t.Fatalf("%T: %q is plain, and becomes %q, %v", c, target, path, err)
				}
			}
			if !slices.Equal(before, target) {
				t.Fatalf("%T wrote into %q", c, before)
			}
			if err != nil {
				if !errors.Is(err, ErrTarget) || path != "" {
					t.Fatalf("%T: %q -> %q, %v", c, target, path, err)
				}
				continue
			}
			if path == "*" {
				continue
			}
			if path == "" || path[0] != '/' || strings.Contains(path, "//") || slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return s == "." || s == ".." }) ||
				strings.Contains(strings.NewReplacer("%25", "", "%3F", "", "%23", "").Replace(path), "%") || strings.ContainsAny(path, "?#\x00") {
				t.Fatalf("%T: %q -> %q", c, target, path)
			}
			again := path
			if _, ok := c.(*Server); ok { // what cannot come but encoded
				again = ""
				for _, b := range []byte(path) {
					if b < 0x80 {
						again += string(rune(b))
					} else {
						again += fmt.Sprintf("%%%02x", b)
					}
				}
			}
			if p, _, err := c.Canonical([]byte(again)); err != nil || p != path {
				t.Fatalf("%T: %q -> %q -> %q, %v", c, target, path, p, err)
			}
		}
	})
}
