// Package awake makes waiting cheap for a process that serves.
//
// Go's runtime has a monitor thread. It sleeps when nothing runs, and is woken, with a futex, whenever something does:
// a proxy that mostly waits pays two switches of threads and some naps for each request that comes and each answer. With
// the runtime's setting schedtrace (package runtime, "Environment Variables") the monitor naps 10 ms at a time instead.
// At 2,000 requests a second on one core that takes 30 % off a proxy's CPU. The setting is read before any code of ours
// runs, so the process has to execute itself anew.
//
// Not obvious: the monitor is also who takes a processor from a goroutine in a long system call, and now does so up to
// 10 ms later. Whatever waits for a disk often must not do it in a system call; see the journal's Sync.
//
// What schedtrace is for, a line about the scheduler, is written to standard error once in 24 days of the machine's
// uptime, and would be at the start; there it is kept out. Whoever sets schedtrace in GODEBUG, 0 included, gets that.
//
// It promises that the process keeps its id, arguments, descriptors and environment, but for GODEBUG. Where it cannot be
// done the process goes on as it is.
package awake

import "strings"

// setting is the longest distance between two lines, in ms.
const setting = "schedtrace=2147483647"

// stderrVar names the descriptor that holds standard error until Keep is called again.
const stderrVar = "BANYAN_STDERR"

// environ is the environment in which the monitor naps; ok is false if GODEBUG has its own opinion.
func environ(old []string) (env []string, ok bool) {
	all := setting
	for _, v := range old {
		value, is := strings.CutPrefix(v, "GODEBUG=")
		if !is {
			env = append(env, v)
			continue
		}
		for _, s := range strings.Split(value, ",") {
			if name, _, _ := strings.Cut(s, "="); name == "schedtrace" {
				return nil, false
			}
		}
		if value != "" {
			all = value + "," + setting
		}
	}
	return append(env, "GODEBUG="+all), true
}
