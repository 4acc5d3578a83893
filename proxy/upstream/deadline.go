package upstream

import "time"

var epoch = time.Now()

// Now is the time of this process's monotonic clock, in nanoseconds.
func Now() int64 { return int64(time.Since(epoch)) }

// Deadline spares most calls that set a socket's deadline: it is set an eighth later than asked, and stays until less
// than what is asked is left. The zero value has none set.
type Deadline struct{ at int64 }

// Extend sees to it that the wait that starts now ends between timeout and 9/8 of it. set is the socket's method.
func (d *Deadline) Extend(set func(time.Time) error, now int64, timeout time.Duration) error {
	slack := int64(timeout) / 8
	if want := now + int64(timeout); d.at < want || d.at > want+slack {
		d.at = want + slack
		return set(epoch.Add(time.Duration(d.at)))
	}
	return nil
}

// Forget makes the next Extend set the socket's deadline whatever it is.
func (d *Deadline) Forget() { d.at = 0 }
