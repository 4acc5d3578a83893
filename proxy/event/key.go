package event

import "github.com/cespare/xxhash/v2"

// Migration names the unit that is moved: one kind of entity, its routes, its stage.
type Migration string

// OrderingKey is what orders writes and partitions topics, e.g. "match/7". Empty means "not known", which is
// relevant to every key.
type OrderingKey string

// Entity is what is compared, e.g. "unit/42".
type Entity string

// Address is one place where a write belongs: a migration and one of its ordering keys.
type Address struct {
	Migration Migration   `json:"migration"`
	Key       OrderingKey `json:"key"`
	Primary   bool        `json:"primary,omitempty"` // the one that counts in the account
}

// Partition maps an ordering key to 0..n-1. It is a promise for ever: topics of one installation are co-partitioned
// by it, and no librdkafka or Java default partitioner is asked. The hash is XXH64 of the key's bytes.
// n must be at least 1.
func Partition(k OrderingKey, n int32) int32 {
	return int32(xxhash.Sum64String(string(k)) % uint64(n))
}
