package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"banyan/proxy/kafka"
)

// settings are what the service is told at start, each by a flag or by its environment variable.
type settings struct {
	listen               string
	kafka                kafka.Config
	readDSN, redis, sql  string
	unitsGen, economyGen int
	bug                  bool
}

// parse reads flags; a flag wins over the environment.
func parse(args []string, getenv func(string) string, stderr io.Writer) (settings, error) {
	var c settings
	fs := flag.NewFlagSet("gameservice", flag.ContinueOnError)
	fs.SetOutput(stderr)
	var errs []error
	text := func(p *string, name, env, def, usage string) {
		if v := getenv(env); v != "" {
			def = v
		}
		fs.StringVar(p, name, def, usage+" (env "+env+")")
	}
	number := func(p *int, name, env string, def int, usage string) {
		if v := getenv(env); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %q is not a number", env, v))
			}
			def = n
		}
		fs.IntVar(p, name, def, usage+" (env "+env+")")
	}
	var brokers string
	var partitions int
	text(&c.listen, "listen", "GAMESERVICE_LISTEN", "127.0.0.1:8090", "host:port to serve at")
	text(&brokers, "kafka", "KAFKA", "127.0.0.1:9092", "brokers, with commas between")
	text(&c.kafka.Prefix, "kafka-prefix", "KAFKA_PREFIX", "banyan", "kafka.prefix of banyan.yaml")
	number(&partitions, "kafka-partitions", "KAFKA_PARTITIONS", 24, "kafka.partitions of banyan.yaml")
	text(&c.readDSN, "read-model", "READ_DSN", "", "postgres:// of the read models")
	text(&c.redis, "redis", "REDIS_URL", "", "redis:// of the documents; empty: PostgreSQL alone")
	text(&c.sql, "sql", "GAMESERVICE_SQL", "testdata/game/sql", "directory of the statements that banyan.yaml names")
	number(&c.unitsGen, "units-generation", "UNITS_GENERATION", 0, "of the read model of units; 0: the current one, which is followed")
	number(&c.economyGen, "economy-generation", "ECONOMY_GENERATION", 0, "of the read model of the economy; 0: the current one, which is followed")
	fs.BoolVar(&c.bug, "bug", getenv("GAMESERVICE_BUG") == "1", "plant a defect: a buyer of iron is credited with what it paid (env GAMESERVICE_BUG=1)")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	c.kafka.Brokers, c.kafka.Partitions = strings.Split(brokers, ","), int32(partitions)
	c.kafka = c.kafka.WithDefaults()
	errs = append(errs, c.kafka.Validate())
	if c.readDSN == "" {
		errs = append(errs, errors.New("read-model: none given; want the postgres:// URL that read_model.postgres of banyan.yaml has"))
	}
	if c.unitsGen < 0 || c.economyGen < 0 {
		errs = append(errs, fmt.Errorf("generations: %d and %d: want 1 or more, or 0 to follow the current one", c.unitsGen, c.economyGen))
	}
	return c, errors.Join(errs...)
}
