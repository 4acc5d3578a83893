// Command fasthttp is a reverse proxy of github.com/valyala/fasthttp as its users write one: a HostClient behind a Server.
// It promises what testdata/bench needs to compare it: it adds X-Forwarded-For and X-Forwarded-Proto, keeps connections on
// both sides, and passes names and paths as they came. Upgrades and trailers are left to others. What legacy does not
// answer is answered with 502.
package main

import (
	"flag"
	"log"
	"os"
	"os/signal"
	"time"

	"github.com/valyala/fasthttp"
)

func main() {
	listen := flag.String("listen", "", "host:port")
	legacy := flag.String("legacy", "", "host:port")
	flag.Parse()
	client := &fasthttp.HostClient{Addr: *legacy, MaxConns: 1024, MaxIdleConnDuration: 300 * time.Second,
		NoDefaultUserAgentHeader: true, DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true}
	s := &fasthttp.Server{Handler: forward(client), IdleTimeout: 300 * time.Second, CloseOnShutdown: true,
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true, DisableHeaderNamesNormalizing: true}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	go func() {
		<-interrupted
		os.Exit(0)
	}()
	log.Fatal(s.ListenAndServe(*listen))
}

func forward(client *fasthttp.HostClient) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		req, resp := &ctx.Request, &ctx.Response
		from := ctx.RemoteIP().String()
		if before := req.Header.Peek("X-Forwarded-For"); len(before) > 0 {
			from = string(before) + ", " + from
		}
		req.Header.Set("X-Forwarded-For", from)
		req.Header.Set("X-Forwarded-Proto", "http")
		req.Header.Del("Connection")
		if err := client.Do(req, resp); err != nil {
			resp.Reset()
			resp.SetStatusCode(fasthttp.StatusBadGateway)
			return
		}
		resp.Header.Del("Connection")
	}
}
