package cli

import (
	"context"
	"errors"
	"strconv"
	"time"

	"banyan/cmd/internal/config"
	"banyan/cmd/internal/role"
	"banyan/cmd/internal/telemetry"
	"banyan/proxy/event"
	"banyan/shadow/ledger"
)

// observeShadow registers what the consumers tell; close ends the Kafka client that asks for lag.
func observeShadow(tel *telemetry.Provider, f *config.File, s *role.Shadow) (closeClient func(), err error) {
	cl, err := f.Kafka.Client("banyan-lag")
	if err != nil {
		return nil, err
	}
	return cl.Close, errors.Join(
		tel.Observe("banyan.events.published", func(context.Context) (out []telemetry.Value) {
			s.Published(func(m event.Migration, typ, version string, n int64) {
				out = append(out, telemetry.Value{N: float64(n), Labels: []string{string(m), typ, version}})
			})
			return out
		}),
		tel.Observe("banyan.events.rejected", func(context.Context) (out []telemetry.Value) {
			s.Parked(func(m event.Migration, stage string, n int64) {
				out = append(out, telemetry.Value{N: float64(n), Labels: []string{string(m), stage}})
			})
			return out
		}),
		tel.Observe("banyan.projection.staleness", func(context.Context) (out []telemetry.Value) {
			s.Staleness(time.Now(), func(m event.Migration, partition int32, age time.Duration) {
				out = append(out, telemetry.Value{N: age.Seconds(), Labels: []string{string(m), strconv.Itoa(int(partition))}})
			})
			return out
		}),
		tel.Observe("banyan.compare.results", func(ctx context.Context) (out []telemetry.Value) {
			s.Compared(ctx, func(m event.Migration, c ledger.Comparison, outcome string, n int64) {
				surface := "table"
				if c.IsRoute() {
					surface = "http"
				}
				out = append(out, telemetry.Value{N: float64(n), Labels: []string{string(m), string(c), outcome, surface}})
			})
			return out
		}),
		tel.Observe("banyan.kafka.consumer.lag", func(ctx context.Context) (out []telemetry.Value) {
			lags, err := s.Lags(ctx, cl)
			if err != nil {
				return nil // Kafka is away: nothing is told, which an alert on silence sees
			}
			for _, l := range lags {
				out = append(out, telemetry.Value{N: float64(l.Records), Labels: []string{l.Group, l.Topic, strconv.Itoa(int(l.Partition))}})
			}
			return out
		}))
}
