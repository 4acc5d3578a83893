package readmodel

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"banyan/proxy/event"

	"github.com/redis/rueidis"
)

// RedisConfig is where the documents of one generation live. A [Pointer] has no generation of its own.
type RedisConfig struct {
	URL        string // redis://host:port/db
	Prefix     string // of every key; the same as of the topics
	Migration  event.Migration
	Generation int
}

// Redis is the documents of one generation.
type Redis struct {
	cl         rueidis.Client
	base       string // of every key of this installation
	prefix     string // of the generation's
	generation int
	set        *rueidis.Lua
}

// Version orders writes of one document. Generation is the read model's own.
type Version struct {
	Position event.Position
	Sequence int64
}

// Document is one value to write; JSON nil means that it is gone.
type Document struct {
	Key     string
	Version Version
	JSON    json.RawMessage
}

// setScript: fields v and d as the package comment says. Versions have a fixed width, so text order is their order. An
// equal version may be written again: it is a repeat.
const setScript = `local v = redis.call('HGET', KEYS[1], 'v')
if v and v > ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1])
if ARGV[2] == '' then redis.call('HDEL', KEYS[1], 'd') else redis.call('HSET', KEYS[1], 'd', ARGV[2]) end
return 1`

// OpenRedis connects; an unreachable server is an error.
func OpenRedis(c RedisConfig) (*Redis, error) {
	opt, err := rueidis.ParseURL(c.URL)
	if err != nil {
		return nil, fmt.Errorf("read model: redis: %w; want redis://host:port/db", err)
	}
	opt.DisableCache = true // works with servers that lack client tracking
	cl, err := rueidis.NewClient(opt)
	if err != nil {
		return nil, fmt.Errorf("read model: redis: %w", err)
	}
	return &Redis{cl: cl, base: c.Prefix + ":", prefix: fmt.Sprintf("%s:%s:g%d:", c.Prefix, c.Migration, c.Generation), generation: c.Generation,
		set: rueidis.NewLuaScriptNoSha(setScript)}, nil // EVALSHA would load the script before each batch: a round trip more
}

// Close closes the connections.
func (r *Redis) Close() { r.cl.Close() }

// DocumentKey is where a document stands.
func (r *Redis) DocumentKey(key string) string { return r.prefix + "doc:" + key }

// ProgressKey is where a partition's progress stands.
func (r *Redis) ProgressKey(partition int32) string {
	return r.prefix + "progress:" + strconv.Itoa(int(partition))
}

func (r *Redis) version(v Version) string {
	return fmt.Sprintf("%08x.%016x.%016x", r.generation, uint64(v.Position), uint64(v.Sequence))
}

// Set writes documents; it says how many were older than what is there, and left alone.
func (r *Redis) Set(ctx context.Context, docs []Document) (older int, err error) {
	if len(docs) == 0 {
		return 0, nil
	}
	execs := make([]rueidis.LuaExec, len(docs))
	last, text := docs[0].Version, r.version(docs[0].Version) // mostly the same for all
	for i, d := range docs {
		if d.Version != last {
			last, text = d.Version, r.version(d.Version)
		}
		execs[i] = rueidis.LuaExec{Keys: []string{r.DocumentKey(d.Key)}, Args: []string{text, rueidis.BinaryString(d.JSON)}}
	}
	return r.exec(ctx, execs)
}

func (r *Redis) exec(ctx context.Context, execs []rueidis.LuaExec) (older int, err error) {
	for i, res := range r.set.ExecMulti(ctx, r.cl, execs...) {
		n, err := res.AsInt64()
		if err != nil {
			return older, fmt.Errorf("redis: set %s: %w", execs[i].Keys[0], err)
		}
		if n == 0 {
			older++
		}
	}
	return older, nil
}

// SetProgress writes a partition's progress; an older one never wins.
func (r *Redis) SetProgress(ctx context.Context, p *event.Progress, v Version) error {
	_, err := r.exec(ctx, []rueidis.LuaExec{{Keys: []string{r.ProgressKey(p.Partition)}, Args: []string{r.version(v), string(event.Encode(p))}}})
	return err
}

// Progress reads a partition's progress, nil if there is none.
func (r *Redis) Progress(ctx context.Context, partition int32) (*event.Progress, error) {
	b, err := r.get(ctx, r.ProgressKey(partition))
	if err != nil {
		return nil, err
	}
	return decodeProgress(b)
}

// Get reads a document, nil if there is none.
func (r *Redis) Get(ctx context.Context, key string) (json.RawMessage, error) {
	return r.get(ctx, r.DocumentKey(key))
}

func (r *Redis) get(ctx context.Context, key string) ([]byte, error) {
	b, err := r.cl.Do(ctx, r.cl.B().Hget().Key(key).Field("d").Build()).AsBytes()
	if rueidis.IsRedisNil(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("redis: get %s: %w", key, err)
	}
	return b, nil
}

// Drop removes everything that the generation keeps in Redis. Documents that are written meanwhile may stay.
func (r *Redis) Drop(ctx context.Context) error {
	for cursor := uint64(0); ; {
		page, err := r.cl.Do(ctx, r.cl.B().Scan().Cursor(cursor).Match(r.prefix+"*").Count(1000).Build()).AsScanEntry()
		if err == nil && len(page.Elements) > 0 {
			err = r.cl.Do(ctx, r.cl.B().Del().Key(page.Elements...).Build()).Error()
		}
		if err != nil {
			return fmt.Errorf("redis: drop %s*: %w", r.prefix, err)
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
	}
}
