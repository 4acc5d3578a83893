//go:build !linux

package footprint

import "time"

func dropFile() {}

func dropZeros([]byte) {}

// cpuTime never grows: without a look at the load, only the start is trimmed.
func cpuTime() time.Duration { return 0 }
