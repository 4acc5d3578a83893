package proxy

import "banyan/proxy/upstream"

// Passthrough forwards everything to one upstream: the proxy of somebody who has configured nothing.
type Passthrough struct {
	Upstream upstream.Upstream
	Options  ForwardOptions
}

var _ Handler = (*Passthrough)(nil)

// Serve implements Handler.
func (p *Passthrough) Serve(x *Exchange) {
	if _, err := x.Forward(p.Upstream, p.Options); err != nil {
		x.Fail(err)
	}
}
