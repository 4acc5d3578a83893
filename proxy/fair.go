package proxy

import "runtime"

// fairShare is how many bytes of one body pass before other requests have their turn.
const fairShare = 64 << 10

// fair lets others run while a large body passes. Where both sides are fast a goroutine that copies never waits, and
// holds its processor until the runtime takes it away after 10 ms: two hundred uploads made everybody wait for seconds.
type fair struct{ moved int }

// pass is called with each piece of the body.
func (f *fair) pass(n int) {
	if f.moved += n; f.moved >= fairShare {
		f.moved -= fairShare // pieces are a little smaller where they are chunked
		runtime.Gosched()    // behind everybody who is ready
	}
}
