// Package telemetry attaches logs, metrics and traces at the edge of the program.
//
// It promises OpenTelemetry's names where there are any, and `banyan.` otherwise; no name of a player, path or host
// of a client in an attribute; and no allocation on the request path. It leaves what is worth counting to the packages
// that count, which know nothing of it. It fails by leaving data out: telemetry is never a reason to fail a request.
package telemetry
