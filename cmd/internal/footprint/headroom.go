package footprint

import "os"

// Headroom is how much more garbage, in bytes, the collector leaves than it would by itself, once [MakeRoom] was called.
const Headroom = 16 << 20

// ballast is never read or written.
var ballast []byte

// MakeRoom has the collector run less often while little is alive. By itself it runs when the heap has doubled, and from
// 4 MiB on: a proxy under load keeps some MiB alive, allocates many times that each second, and marks what lives for each
// of them. The ballast counts as alive, so that much garbage more may come first; a heap that is large doubles as before,
// which a higher GOGC would not bound. The process grows by up to [Headroom] under load, until a [Keeper] trims it.
// Figures of the runtime's heap include the ballast; those of resident memory do not.
//
// Whoever has set GOGC or GOMEMLIMIT gets that alone. Call it once, before serving.
func MakeRoom() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		ballast = make([]byte, Headroom)
		dropZeros(ballast)
	}
}
