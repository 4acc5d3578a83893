// Package explain names why two sides differ. It promises that a cause is claimed only where it can be shown.
package explain
