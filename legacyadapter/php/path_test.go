package php

import "testing"

func TestCanonical(t *testing.T) {
	for target, want := range map[string]string{
		"/": "/index.php", "/a/": "/a/index.php", "/a": "/a", "/a/b.php?x=/../y": "/a/b.php", "//a//b": "/a/b", "/a/./b": "/a/b", "/a/../b": "/b",
		"/a%2fb": "/a/b", "/%61": "/a", "/x.php/extra/y": "/x.php", "/a%20b": "/a b", "http://h/a.php?q": "/a.php", "http://h?q": "/index.php",
		"/a/..": "/index.php", "/a/.": "/a/index.php", "/.php/x": "/.php/x", "/%2e%2e%2fa": "", "/..": "", "/%": "", "/%4": "", "/a%00": "", "": "", "a": "",
	} {
		got, _, err := Nginx{}.Canonical([]byte(target))
		if got != want || (want == "") != (err != nil) {
			t.Errorf("%q -> %q, %v; want %q", target, got, err, want)
		}
	}
	if _, q, _ := (Nginx{}).Canonical([]byte("/a?b=c?d")); string(q) != "b=c?d" {
		t.Errorf("query %q", q)
	}
}

