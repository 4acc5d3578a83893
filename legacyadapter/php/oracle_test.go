package php

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banyan/proxy/route"
	"banyan/testdata/lab"
)

// oracle asks the real interpreter: a php-fpm with one worker, which answers what it sees of a request.
type oracle struct {
	conn   net.Conn
	script string
	old    [3]route.Values // of the request before, for compare
}

const oracleScript = `<?php
ini_set('display_errors', '0');
function flat($a, $p = '') { $o = [];
  foreach ($a as $k => $v) { $n = $p === '' ? (string)$k : $p . '[' . $k . ']';
    if (is_array($v)) { $o += flat($v, $n); } elseif ($v !== null) { $o[base64_encode($n)] = base64_encode((string)$v); } }
  return $o; }
$j = [];
if (($_SERVER['CONTENT_TYPE'] ?? '') === 'application/json') {
  $text = file_get_contents('php://input');
  $d = json_decode($text, true);
  if (is_array($d) && ltrim($text, " \t\r\n")[0] === '{') { foreach ($d as $k => $v) { if (is_scalar($v)) { $j[base64_encode((string)$k)] = base64_encode((string)$v); } } }
}
echo json_encode(['get' => (object)flat($_GET), 'post' => (object)flat($_POST), 'cookie' => (object)flat($_COOKIE), 'json' => (object)$j]);`

func newOracle(t testing.TB) *oracle {
	t.Helper()
	root := t.TempDir()
	script := filepath.Join(root, "oracle.php")
	if err := os.WriteFile(script, []byte(oracleScript), 0o644); err != nil {
		t.Fatal(err)
	}
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 1, Ini: map[string]string{"precision": "14"}})
	conn, err := net.Dial("unix", fpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &oracle{conn: conn, script: script}
}

// asked is one request, as far as parameters go.
type asked struct{ query, cookie, contentType, body string }

// seen is what PHP made of it: scalars by their path, "a[k][0]".
type seen struct{ Get, Post, Cookie, JSON map[string]string }

// ask speaks just as much FastCGI as this takes; the connection is kept.
func (o *oracle) ask(t testing.TB, a asked) seen {
	t.Helper()
	var params []byte
	for _, p := range [][2]string{{"REQUEST_METHOD", "POST"}, {"SCRIPT_FILENAME", o.script}, {"QUERY_STRING", a.query}, {"CONTENT_TYPE", a.contentType},
		{"CONTENT_LENGTH", fmt.Sprint(len(a.body))}, {"HTTP_COOKIE", a.cookie}, {"SERVER_PROTOCOL", "HTTP/1.1"}} {
		for _, s := range p {
			params = binary.BigEndian.AppendUint32(params, uint32(len(s))|1<<31)
		}
		params = append(append(params, p[0]...), p[1]...)
	}
	out := fcgiRecord(nil, 1, []byte{0, 1, 1, 0, 0, 0, 0, 0}) // begin: a responder that keeps the connection
	out = fcgiStream(out, 4, params)
	out = fcgiStream(out, 5, []byte(a.body))
	sent := make(chan error, 1)
	go func() { _, err := o.conn.Write(out); sent <- err }() // ends with the write
	var answer strings.Builder
	for {
		var h [8]byte
		if _, err := io.ReadFull(o.conn, h[:]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, int(binary.BigEndian.Uint16(h[4:]))+int(h[6]))
		if _, err := io.ReadFull(o.conn, b); err != nil {
			t.Fatal(err)
		}
		if h[1] == 6 {
			answer.Write(b[:len(b)-int(h[6])])
		}
		if h[1] == 3 {
			break
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(answer.String(), "\r\n\r\n")
	var s seen
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatalf("%v: %s", err, answer.String())
	}
	for _, m := range []*map[string]string{&s.Get, &s.Post, &s.Cookie, &s.JSON} {
		plain := map[string]string{}
		for k, v := range *m {
			plain[unbase(k)] = unbase(v)
		}
		*m = plain
	}
	return s
}

func unbase(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return string(b)
}

func fcgiRecord(dst []byte, kind byte, content []byte) []byte {
	dst = append(dst, 1, kind, 0, 1)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(content)))
	return append(append(dst, 0, 0), content...)
}

func fcgiStream(dst []byte, kind byte, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), 65535)
		dst, b = fcgiRecord(dst, kind, b[:n]), b[n:]
	}
	return fcgiRecord(dst, kind, nil)
}

// flat is all that Get would find, by name.
func flat(v *vars) map[string]string {
	tops := map[string]*value{}
	for i := range v.list {
		l := &v.list[i]
		tops[l.base] = tops[l.base].register(l, v.cookies)
	}
	out := map[string]string{}
	var walk func(name string, x *value)
	walk = func(name string, x *value) {
		if x == nil {
			return
		}
		if x.kids == nil {
			out[name] = v.decode(x.text)
		}
		for k, kid := range x.kids {
			walk(name+"["+k+"]", kid)
		}
	}
	for name, x := range tops {
		walk(name, x)
	}
	return out
}
