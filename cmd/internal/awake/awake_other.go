//go:build !linux

package awake

// Keep does nothing.
func Keep() {}
