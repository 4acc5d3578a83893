// Package footprint keeps resident what serving needs, not what starting needed.
//
// It promises that the program behaves the same before and after: only garbage and pages that the kernel reads again
// from the program's own file are given back. It leaves to others what is allocated while serving. It cannot fail; where
// the platform offers no way it does nothing.
package footprint

import "runtime/debug"

// Trim is to be called once a process serves. The start runs the init functions of every package and walks tables that
// nothing looks at again: of a binary of 69 MB they leave 31 MiB resident. Dropped, 13 to 19 MiB come back as requests
// are served. It takes a few milliseconds.
func Trim() {
	debug.FreeOSMemory()
	dropFile()
}
