package wire

import "testing"

func BenchmarkRequest(b *testing.B) {
	head := []byte("GET /map.php?x=12&y=40 HTTP/1.1\r\nHost: game.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140 Safari/537.36\r\nAccept: application/json, text/plain, */*\r\nAccept-Language: en-GB,en;q=0.7\r\nX-Requested-With: XMLHttpRequest\r\nReferer: http://game.example/map.php?x=12&y=40\r\nCookie: PHPSESSID=3k2v9q1m7r5t8u0w4x6y2z1a3b; lang=en; seen=1\r\n\r\n")
	var r Request
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if done, err := r.Parse(head); !done || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkResponse(b *testing.B) {
	head := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 20:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 1024\r\nConnection: keep-alive\r\nX-Powered-By: PHP/8.2.30\r\nExpires: Thu, 19 Nov 1981 08:52:00 GMT\r\nCache-Control: no-store, no-cache, must-revalidate\r\nPragma: no-cache\r\nSet-Cookie: lang=en; path=/; HttpOnly\r\n\r\n")
	var r Response
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if done, err := r.Parse(head); !done || err != nil {
			b.Fatal(err)
		}
	}
}
