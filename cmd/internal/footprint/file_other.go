//go:build !linux

package footprint

func dropFile() {}
