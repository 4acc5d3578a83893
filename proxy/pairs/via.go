package pairs

import (
	"fmt"
	"strings"
	"time"

	"banyan/proxy/capture"
	"banyan/proxy/migrate"
	"banyan/proxy/upstream"
	"banyan/proxy/wire"
)

// viaWait bounds each wait of a copy, and so what Stop waits for it.
const viaWait = 10 * time.Second

// askVia is ask for an upstream of the request path.
func askVia(u upstream.Upstream, target, cookie, host string) capture.Answer {
	a := capture.Answer{Target: target, Start: time.Now()}
	err := converse(u, &a, target, cookie, host)
	if a.End = time.Now(); err != nil {
		a.Error, a.Status = fmt.Sprintf("ask %s for %s: %v", u.Name(), target, err), 0
	}
	return a
}

func converse(u upstream.Upstream, a *capture.Answer, target, cookie, host string) error {
	head := append(append([]byte("GET "), target...), " HTTP/1.1\r\n"...)
	for _, f := range []wire.Pair{{Name: "Host", Value: []byte(host)}, {Name: "User-Agent", Value: []byte("banyan")},
		{Name: "Banyan-Copy", Value: []byte("1")}, {Name: "Cookie", Value: []byte(cookie)}} {
		if len(f.Value) == 0 && f.Name != "Host" {
			continue
		}
		var ok bool
		if head, ok = wire.AppendField(head, f.Name, f.Value); !ok {
			return fmt.Errorf("%s cannot stand in a head", strings.ToLower(f.Name))
		}
	}
	t := upstream.Timeouts{Dial: viaWait, FirstByte: viaWait, BetweenBytes: viaWait}
	c, err := u.Get(t, false)
	if err != nil {
		return err
	}
	var resp wire.Response
	var in upstream.Inbox
	if err := receive(c, &upstream.Message{Head: append(head, "\r\n"...), Timeouts: t}, &resp, &in, a); err != nil {
		c.Abort()
		return err
	}
	c.Release()
	return nil
}

// receive sends the request and takes the answer, whole or as much as is kept.
func receive(c upstream.Conn, m *upstream.Message, resp *wire.Response, in *upstream.Inbox, a *capture.Answer) error {
	err := c.Send(m)
	for err == nil || err == upstream.ErrAnswered {
		if err = c.Receive(resp, in); err != nil || !resp.Interim() {
			break
		}
	}
	if err != nil {
		return err
	}
	a.Status, a.ContentType, a.Encoding = resp.Status(), string(resp.Field("content-type")), string(resp.Field("content-encoding"))
	a.Before, a.After = migrate.Positions(string(resp.Field("banyan-position")))
	if resp.Framing(false) == wire.NoBody {
		return nil
	}
	for buf, end := make([]byte, 32<<10), false; !end && a.Length <= maxBody; {
		var n int
		if n, end, err = c.Body(buf); err != nil {
			return err
		}
		a.Length += int64(n)
		a.Body = append(a.Body, buf[:min(n, maxBody-len(a.Body))]...)
	}
	return nil
}
