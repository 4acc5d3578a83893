package php

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"banyan/proxy/route"
	"banyan/testdata/lab"

	"github.com/google/go-cmp/cmp"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/spellings.txt with what the real servers do")

const spellingsFile = "testdata/spellings.txt"

// The site on which spellings are tried. Each script says its own name.
var siteScripts = []string{"/index.php", "/x.php", "/api.php", "/dir/index.php", "/dir/y.php", "/deep/er/z.php", "/a b.php", "/é.php", "/100%.php", "/a+b.php", "/x.php.php", "/q?.php", "/back\\slash.php", "/semi;colon.php", "/dotted.dir/index.php", "/%78.php", "/old.phtml", "/pack.phar"}
var siteFiles = []string{"/style.css", "/plain", "/html/index.html", "/x.phpx", "/x.txt", "/empty/readme"}

func site(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "site")
	put := func(name, text string) {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range siteScripts {
		put(s, "<?php echo '<ran "+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s)+">', $_SERVER['SCRIPT_NAME'], '|', $_SERVER['PATH_INFO'] ?? '';")
	}
	for _, f := range siteFiles {
		put(f, "<file>")
	}
	// As frameworks have it: what exists is served by php -S itself.
	put("../router.php", `<?php
$path = urldecode(parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH) ?: '');
if ($path !== '/' && file_exists($_SERVER['DOCUMENT_ROOT'] . $path)) { return false; }
require $_SERVER['DOCUMENT_ROOT'] . '/index.php';`)
	return root
}

// fronts are the servers, in the order of the table's columns.
var fronts = []string{"nginx", "nginx-plain", "apache", "php-server", "php-router"}

func canonicalizers(t *testing.T, root string) map[string]route.Canonicalizer {
	t.Helper()
	bare, err := NewServer(root, "")
	if err != nil {
		t.Fatal(err)
	}
	routed, err := NewServer(root, "/index.php")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]route.Canonicalizer{"nginx": Nginx{}, "nginx-plain": Nginx{}, "apache": Apache{}, "php-server": bare, "php-router": routed}
}

// plainConf is the other configuration that administrators write: no split, no look whether the script is there, and
// PHP's cgi.fix_pathinfo finds the script.
const plainConf = `server {
  listen {{.Addr}};
  root %q;
  index index.php index.html;
  location ~ \.php$ {
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_param DOCUMENT_ROOT $document_root;
    fastcgi_param SERVER_PROTOCOL $server_protocol;
    fastcgi_param REDIRECT_STATUS 200;
    fastcgi_pass "unix:%s";
  }
}`

// ask sends the target byte for byte and says what ran: a script's name, "file", or the status.
func askFront(addr, target string) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	method := "GET"
	if target == "*" {
		method = "OPTIONS"
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", method, target); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	text := string(answer)
	if _, rest, ok := strings.Cut(text, "<ran "); ok && !strings.Contains(text, "<?php") {
		name, _, _ := strings.Cut(rest, ">")
		return name, nil
	}
	if strings.HasSuffix(text, "<file>") || strings.Contains(text, "<?php") {
		return "file", nil
	}
	status, _, _ := strings.Cut(text, "\r\n")
	if f := strings.Fields(status); len(f) > 1 {
		return f[1], nil
	}
	return "cut", err
}

// spellings are the targets that are tried: each script in every spelling that we know of, and everything else.
func spellings() []string {
	var all []string
	for _, p := range []string{"/x.php", "/index.php", "/dir/y.php", "/dir/", "/deep/er/z.php", "/a%20b.php", "/é.php", "/%C3%A9.php", "/100%25.php", "/style.css", "/none.php", "/dir/none", "/none", "/plain", "/dotted.dir/", "/empty/", "/html/"} {
		dir, name := p[:strings.LastIndexByte(p, '/')+1], p[strings.LastIndexByte(p, '/')+1:]
		all = append(all, p, "/"+p, "//"+p, "/."+p, "/./."+p, "/none/.."+p, "/none/%2e%2e"+p, "/none/.%2E"+p, "/%2e"+p, "/%2f"+p, "/%2F"+p[1:], "/.."+p, "/%2e%2e"+p, "/dir/.."+p, "/dir/../none/.."+p, "/dir%2f.."+p, "/dir/..%2f"+p[1:], "/dir%5c.."+p,
			dir+"./"+name, dir+"/"+name, dir+name+"?a=/../none.php", dir+name+"?", dir+name+"??", dir+name+"%3fa=b", "http://h"+p, "/%252e%252e"+p, "/\\"+p[1:], "/%5c"+p[1:], p+"/", p+"/extra", p+"/extra/more", p+"%2fextra", p+"%2Fextra/more", p+"//extra", p+"/./extra", p+"/../none", p+"/..", p+"/.", p+"/%2e%2e/none", p+"/extra/../..",
			p+"/x.php", p+"/none.php", p+"/a%0ab", p+"/%00", p+"%00", p+"%00.css", p+"%0a", p+"%20", p+".", p+"..", p+"::$DATA", p+";a=b", p+"%3ba=b", p+"%23", p+"%5c", p+"\\", p+"%5cextra", p+"~", p+"%", p+"%zz", p+"%2", p+"%c0%ae", p+"%ff", p+"%u002f", p+"%25", p+"%252fextra", p+"+", p+"&a=b", p+"=", p+":80", p+"/extra.css", p+"/%7f", p+"/%01", p+"/%09", p+"/%0d")
	}
	for _, s := range []string{"/x.php", "/dir/y.php"} { // one byte encoded, and all
		whole := ""
		for i := 0; i < len(s); i++ {
			all = append(all, fmt.Sprintf("%s%%%02x%s", s[:i], s[i], s[i+1:]), fmt.Sprintf("%s%%25%02x%s", s[:i], s[i], s[i+1:]))
			whole += fmt.Sprintf("%%%02X", s[i])
		}
		all = append(all, whole, "/"+whole)
	}
	return append(all, "/", "//", "///", "/.", "/./", "/..", "/../", "/%2e", "/%2e/", "/%2f", "/%00", "/%", "/%0a", "*", "http://h", "http://h/", "http://h//x.php", "http://h/x.php/e?http://h/api.php", "HTTP://h/x.php",
		"/X.PHP", "/x.PHP", "/x.Php", "/X.php", "/DIR/y.php", "/x.phpx", "/x.phtml", "/x.php5", "/x.phar", "/x.php.php", "/x.php.php/e", "/x.txt/x.php", "/style.css/x.php", "/style.css/e", "/dir/x.php", "/dir", "/dir/e", "/dir/e/f", "/dir/e.css", "/dir/index.php/e", "/dir.php/", "/dir/.php", "/.php", "/.php/", "/.php/x.php", "/.php/x.php/e", "/none.php/x.php", "/none.php/../x.php", "/none/x.php", "/deep", "/deep/", "/deep/er", "/deep/er/", "/deep/er/none/x", "/deep/none.css", "/dotted.dir", "/dotted.dir/e", "/dotted.dir/e.css", "/dotted.dir/e.php",
		"/a+b.php", "/a%2bb.php", "/a%2Bb.php/e", "/q%3f.php", "/q%3F.php/e", "/q?.php", "/back\\slash.php", "/back%5cslash.php", "/back/slash.php", "/semi;colon.php", "/semi%3bcolon.php", "/semi;colon.php;v=1", "/%2578.php", "/%25%37%38.php", "/%78.php", "/é", "/%e9.php", "/%c3%a9.php/e", "/%C3%A9.php", "/e%cc%81.php", "/%c0%afx.php", "/%c0%ae%c0%ae/x.php", "/%e0%80%afx.php", "/%ef%bc%8fx.php", "/x%e2%80%8b.php",
		"/old.phtml", "/old.phtml/e", "/pack.phar", "/pack.phar/e", "//pack.phar/x.php", "/.phar/x.php/e", "/x.php?/../api.php", "/x.php?x#y", "/?x.php", "/?/x.php", "/api.php?x.php/e", "/"+strings.Repeat("a", 4000), "/x.php/"+strings.Repeat("a", 4000), "/"+strings.Repeat("./", 1000)+"x.php", strings.Repeat("/", 1000)+"x.php", "/"+strings.Repeat("a/../", 800)+"x.php", "/"+strings.Repeat("a/", 500)+strings.Repeat("../", 500)+"x.php", "/"+strings.Repeat("%2e%2f", 500)+"x.php")
}

// can says whether the proxy's own parser lets the target through; what it refuses reaches nobody.
func can(target string) bool {
	return strings.IndexFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) < 0
}

// row is a line of the table: a target, and what each front end ran.
type row struct {
	target string
	cells  []string
}

func (r row) String() string { return show(r.target) + "\t" + strings.Join(r.cells, "\t") }

// show writes what is no printable ASCII as Go does.
func show(target string) string { return strings.Trim(strconv.QuoteToASCII(target), `"`) }

func readRows(t *testing.T) []row {
	t.Helper()
	f, err := os.Open(spellingsFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []row
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if l := lines.Text(); l != "" && l[0] != '#' {
			cells := strings.Split(l, "\t")
			target, err := strconv.Unquote(`"` + cells[0] + `"`)
			if err != nil || len(cells) != 1+len(fronts) {
				t.Fatalf("%s: %v", l, err)
			}
			rows = append(rows, row{target, cells[1:]})
		}
	}
	return rows
}

// verdict compares what ran with what the canonicalizer says: "" when they agree, else
//
//	refused    legacy runs a script, we answer 400
//	over       we route as a script that legacy does not run
//	unnoticed  legacy runs a script, we do not route as that one
func verdict(c route.Canonicalizer, target, ran string) string {
	path, _, err := c.Canonical([]byte(target))
	ranScript := ran != "" && ran[0] == '/'
	switch {
	case err != nil && !errors.Is(err, ErrTarget):
		return "unnoticed"
	case err != nil && ranScript:
		return "refused"
	case err != nil:
		return ""
	case ranScript && path != escapePath(ran):
		return "unnoticed"
	case ran != "file" && !ranScript && slices.ContainsFunc(siteScripts, func(s string) bool { return path == escapePath(s) }):
		return "over"
	}
	return ""
}

// differences counts the cells whose mark "!..." is accepted. These numbers only shrink, and nothing runs unnoticed.
var differences = map[string]int{
	"nginx over":         3,   // PATH_INFO behind *.phar and *.phtml, which nginx does not take for scripts, and php-fpm may
	"nginx-plain over":   113, // without a split, PATH_INFO is 404; the same canonicalizer serves both configurations
	"php-server refused": 12,  // NUL, and "*", which php -S takes for a path
	"php-router refused": 712, // PATH that a router may read otherwise than php -S: dot segments, empty ones, encoded slashes, ports
}

func TestSpellingsFindTheirScript(t *testing.T) {
	canon := canonicalizers(t, site(t))
	rows := readRows(t)
	if len(rows) < 300 {
		t.Fatalf("%d spellings", len(rows))
	}
	count := map[string]int{}
	for _, r := range rows {
		for i, f := range fronts {
			ran, mark, _ := strings.Cut(r.cells[i], "!")
			if v := verdict(canon[f], r.target, ran); v != mark {
				path, _, err := canon[f].Canonical([]byte(r.target))
				t.Errorf("%s behind %s: %s ran, we say %q, %v: %q, the table has %q", show(r.target), f, ran, path, err, v, mark)
			}
			if mark != "" {
				count[f+" "+mark]++
			}
		}
	}
	if d := cmp.Diff(differences, count); d != "" {
		t.Errorf("accepted differences: want -, the table has +\n%s", d)
	}
}

// startFronts gives the address of each front end of the site.
func startFronts(t *testing.T, root string) map[string]string {
	fpm := lab.PHPFPM(t, lab.PHPFPMConfig{Root: root, Workers: 2, Extensions: ".php .phar .phtml"})
	return map[string]string{
		"nginx":       strings.TrimPrefix(lab.NginxPHP(t, fpm, root), "http://"),
		"nginx-plain": lab.Nginx(t, fmt.Sprintf(plainConf, root, fpm.Socket)).Addr,
		"apache":      strings.TrimPrefix(lab.ApachePHP(t, fpm, root), "http://"),
		"php-server":  lab.PHPServer(t, root, 1, nil).Addr,
		"php-router":  lab.PHPServer(t, root, 1, nil, filepath.Join(root, "../router.php")).Addr,
	}
}

func TestSpellingsOnRealServers(t *testing.T) {
	root := site(t)
	canon, addr := canonicalizers(t, root), startFronts(t, root)
	var rows []row
	seen := map[string]bool{}
	for _, target := range spellings() {
		if !can(target) || seen[target] {
			continue
		}
		seen[target] = true
		r := row{target: target}
		for _, f := range fronts {
			ran, err := askFront(addr[f], target)
			if err != nil {
				t.Errorf("%s: %s: %v", f, show(target), err)
			}
			if v := verdict(canon[f], target, ran); v != "" {
				ran += "!" + v
			}
			r.cells = append(r.cells, ran)
		}
		rows = append(rows, r)
	}
	if *rewrite {
		writeRows(t, rows)
		return
	}
	text := func(rows []row) (all []string) { // which script ran; the status of what ran none is the server's version's
		for _, r := range rows {
			cells := slices.Clone(r.cells)
			for i, c := range cells {
				if ran, mark, _ := strings.Cut(c, "!"); ran[0] != '/' {
					cells[i] = "none!" + mark
				}
			}
			all = append(all, row{r.target, cells}.String())
		}
		return all
	}
	if d := cmp.Diff(text(readRows(t)), text(rows)); d != "" {
		t.Errorf("the table has -, the servers do +; -rewrite writes it anew, then read the diff\n%s", d)
	}
}

// Whatever random spelling runs a script is routed as that script or refused.
func TestRandomSpellingsOnRealServers(t *testing.T) {
	randomSpellings(t, 200)
}

// refusedAnywhere is what some canonicalizer refuses wherever it stands, also where ".." takes it away again.
var refusedAnywhere = regexp.MustCompile("(?i)%0[0a]|%2f|%3f")

func randomSpellings(t *testing.T, n int) {
	root := site(t)
	canon, addr := canonicalizers(t, root), startFronts(t, root)
	r := rand.New(rand.NewPCG(3, uint64(n)))
	pieces := []string{"/", "/", "/", ".", "..", "/../", "/./", "//", "x.php", "index.php", "dir", "dir/y.php", "y.php", "deep/er/z.php", "none", "plain", "style.css", ".php", ".phar", "pack.phar", "old.phtml", "dotted.dir", "empty", "html",
		"%2f", "%2F", "%2e", "%2e%2e", "%252e", "%5c", "\\", "%20", "%0a", "%0d", "%00", "%3f", "%23", "%25", "%", ";a=b", "?", "?a=/x.php", "%c0%af", "%C3%A9", "é", "a%20b.php", "100%25.php", "+", "~", ":", ":80", "%78", "%70hp", "X.PHP", "extra"}
	ran := 0
	for range n {
		target := "/"
		for range 1 + r.IntN(6) {
			target += pieces[r.IntN(len(pieces))]
		}
		for _, f := range fronts {
			what, err := askFront(addr[f], target)
			if err != nil {
				t.Fatalf("%s: %s: %v", f, show(target), err)
			}
			if what[0] == '/' {
				ran++
			}
			switch v := verdict(canon[f], target, what); {
			case v == "unnoticed", v == "over" && !strings.HasPrefix(f, "nginx"), v == "refused" && f != "php-router" && !refusedAnywhere.MatchString(target):
				path, _, err := canon[f].Canonical([]byte(target))
				t.Errorf("%s behind %s: %s ran, we say %q, %v: %s", show(target), f, what, path, err, v)
			}
		}
	}
	if ran < n/2 {
		t.Errorf("%d scripts ran for %d targets on %d servers: these spellings say little", ran, n, len(fronts))
	}
}

func writeRows(t *testing.T, rows []row) {
	t.Helper()
	var b strings.Builder
	b.WriteString("# Written by `go test -run OnRealServers -rewrite`: what ran for a request target behind each front end (a script, a file,\n" +
		"# or a status), and after '!' where the canonicalizer differs: refused (we answer 400), over (we route as a script that\n" +
		"# did not run), unnoticed (a script ran that we do not see).\n# target\t" + strings.Join(fronts, "\t") + "\n")
	count := map[string]int{}
	for _, r := range rows {
		fmt.Fprintln(&b, r)
		for i, f := range fronts {
			if _, mark, ok := strings.Cut(r.cells[i], "!"); ok {
				count[f+" "+mark]++
			}
		}
	}
	if err := os.WriteFile(spellingsFile, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%s: %d", k, count[k])
	}
}
