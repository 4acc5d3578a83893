package config

import (
	"time"

	"banyan/diff"
	"banyan/proxy/balance"
	"banyan/proxy/event"
	"banyan/proxy/kafka"
	"banyan/proxy/route"
	"banyan/shadow/project"
	"banyan/shadow/settle"
	"banyan/shadow/translate"
)

// File is banyan.yaml.
type File struct {
	Version    int                           `yaml:"version"` // of this format: 1
	Proxy      Proxy                         `yaml:"proxy"`
	Upstreams  map[string]Upstream           `yaml:"upstreams"` // by name; "legacy" is where everything goes that nothing else names
	Kafka      kafka.Config                  `yaml:"kafka"`
	Ledger     Ledger                        `yaml:"ledger"`
	LegacyDB   LegacyDB                      `yaml:"legacy_db"`
	Settle     settle.Config                 `yaml:"settle"`
	Contracts  string                        `yaml:"contracts"` // directory of JSON Schemas, relative to this file
	Routes     []PlainRoute                  `yaml:"routes"`
	Migrations map[event.Migration]Migration `yaml:"migrations"`

	dir string
}

// Proxy is the request path.
type Proxy struct {
	Listen         string   `yaml:"listen"`          // host:port; default ":8080"
	TLS            *TLS     `yaml:"tls"`             // a second listener, for HTTPS; default: none
	Admin          string   `yaml:"admin"`           // host:port of metrics, health and the admin API; default "127.0.0.1:9901"
	Token          string   `yaml:"token"`           // of the admin API; default: a file made at the first start, readable by its owner only
	Replica        string   `yaml:"replica"`         // this proxy's name, the same at each start; default: the host's name
	TrustedProxies []string `yaml:"trusted_proxies"` // CIDRs whose X-Forwarded-* are believed
	// ProxyProtocol is CIDRs of balancers that forward TCP: each connection of theirs has to begin with a header of the
	// PROXY protocol, before TLS, which names the client. trusted_proxies is then asked about that client. Default: none.
	ProxyProtocol []string `yaml:"proxy_protocol"`
	Limits        Limits   `yaml:"limits"`
	Journal       Journal  `yaml:"journal"`
	Redact        []string `yaml:"redact"` // "form.pass*", "json.token": masked beside the defaults before the journal
	// HashKey makes session hashes useless to others; the same for all proxies. Default: a file made at the first start.
	HashKey  string   `yaml:"hash_key"`
	Sessions Sessions `yaml:"sessions"`
}

// TLS is the listener for HTTPS. Clients choose between HTTP/2 and HTTP/1.1. Files are read again when they change.
type TLS struct {
	Listen       string        `yaml:"listen"`       // host:port; default ":8443"
	Certificates []Certificate `yaml:"certificates"` // one or more; a client gets the first that fits the name it asks for, else the first
	MinVersion   string        `yaml:"min_version"`  // "1.2" or "1.3"; default "1.2"
	ClientCA     string        `yaml:"client_ca"`    // PEM file of authorities: clients have to show a certificate of one; default: they need none
}

// Certificate is a pair of PEM files, relative to this file.
type Certificate struct {
	Cert string `yaml:"cert"` // the certificate, followed by those between it and the authority's
	Key  string `yaml:"key"`  // its private key
}

// Sessions tells where legacy keeps the session, and how it names the player.
type Sessions struct {
	Cookie string `yaml:"cookie"` // e.g. PHPSESSID
	Player string `yaml:"player"` // a cookie that legacy sets together with it at login; believed only from legacy's answer
}

// Limits bound what a client may ask of the proxy. Zero values are the defaults.
type Limits struct {
	Head        Bytes `yaml:"head"`        // request line and fields; default 64KiB
	Body        Bytes `yaml:"body"`        // default 64MiB
	Inline      Bytes `yaml:"inline"`      // of a body that is read before legacy is asked; default 1MiB
	Connections int   `yaml:"connections"` // default 20000
	// ConnectionsPerClient bounds the connections of one IPv4 address or IPv6 /64 that is not in trusted_proxies. Many
	// players may share an address. Default: no bound.
	ConnectionsPerClient int   `yaml:"connections_per_client"`
	Buffered             Bytes `yaml:"buffered"` // memory of all bodies that are held for routes, half of it for what HTTP/2 clients send ahead; what needs more gets 503, who sends ahead waits; default 512MiB
	// BodyRate is what a client has to send of a body each second, on average over body_timeout, and over HTTP/2 what it has
	// to take of each answer, on average over write_timeout; 0: no floor. Default 100B.
	BodyRate     *Bytes        `yaml:"body_rate"`
	BodyTimeout  time.Duration `yaml:"body_timeout"`  // between two pieces of a body; default 30s
	WriteTimeout time.Duration `yaml:"write_timeout"` // until a client takes more of an answer; default 60s
	// UpgradeTimeout is how long a connection that has switched protocols may be silent both ways; default 10m. Let the
	// server's pings be more frequent.
	UpgradeTimeout time.Duration `yaml:"upgrade_timeout"`
	Streams        int           `yaml:"streams"`        // requests at a time on one HTTP/2 connection; default 100
	HeaderTimeout  time.Duration `yaml:"header_timeout"` // default 5s
	IdleTimeout    time.Duration `yaml:"idle_timeout"`   // default 75s
	Drain          time.Duration `yaml:"drain"`          // how long a stop waits for requests under way, and leaves WebSockets open; default 30s
}

// Journal is the proxy's durable local log.
type Journal struct {
	Dir   string `yaml:"dir"`   // default ./journal
	Quota Bytes  `yaml:"quota"` // default 20GiB; above it when_full decides
	Ack   string `yaml:"ack"`   // journal (default): synced before legacy sees the write; memory: a power cut may lose it, and the evidence says so
}

// Upstream is a backend: http or fastcgi.
type Upstream struct {
	// HTTP is http://host:port or unix:/path, or a list of several instances. All proxies have to spell them alike: the
	// text decides which sessions an instance gets.
	HTTP           Instances     `yaml:"http"`
	FastCGI        *FastCGI      `yaml:"fastcgi"`         // php-fpm, with no web server before it
	Timeout        time.Duration `yaml:"timeout"`         // to the first byte of an answer; default 60s for legacy, 1s for others
	MaxConnections int           `yaml:"max_connections"` // to each instance, which is also its requests under way, open WebSockets included; default 512
	// MaxRequests bounds the requests under way at all instances together, where they share a database that takes no
	// more. Default: max_connections for each instance.
	MaxRequests int `yaml:"max_requests"`
	// Sticky keeps each session at one instance, because legacy keeps sessions in an instance's memory or files. None:
	// every request goes to the instance with the fewest requests under way.
	Sticky *balance.Sticky `yaml:"sticky"`
	// Drain names instances, as http spells them, that get no new sessions: those that they hold stay until they end.
	Drain  []string        `yaml:"drain"`
	Queue  *balance.Queue  `yaml:"queue"`  // of requests that find every place taken
	Eject  balance.Eject   `yaml:"eject"`  // when one of several instances is left alone; never the last
	Health *balance.Health `yaml:"health"` // none: only requests tell how instances are
	// Breaker lets legacy answer at once while this upstream, a candidate, fails; what has no other answer is asked all
	// the same. None: every read in the share asks the candidate first.
	Breaker      *balance.Breaker `yaml:"breaker"`
	SlowStart    time.Duration    `yaml:"slow_start"`    // how long an instance that comes back gets fewer new sessions; default 10s where there are several
	MaxExecution time.Duration    `yaml:"max_execution"` // how long legacy may run on after a cut; default 30s
	// Resolve is how its front end finds the script that a path runs, which decides routes: nginx (default) or apache, each
	// with php-fpm; php-server, which is php -S; none for a legacy that is not files of PHP. Legacy's alone matters.
	Resolve string `yaml:"resolve"`
	Root    string `yaml:"root"`   // php-server: the document root (php -S … -t ROOT), relative to this file; needed, because what a path runs depends on the files
	Router  string `yaml:"router"` // php-server: the script in which its router script ends, as a path below root such as /index.php; default: it has no router
}

// FastCGI is a php-fpm and the site that it runs.
type FastCGI struct {
	Address    string `yaml:"address"`     // unix:/path or host:port
	Root       string `yaml:"root"`        // directory of the site, relative to this file; scripts that are no file below it are 404
	ScriptRoot string `yaml:"script_root"` // the same directory as php-fpm sees it, in another container for example; default root
	Index      string `yaml:"index"`       // script of a directory; default index.php
	// FrontController runs /index.php for a path that is nothing else, as try_files $uri $uri/ /index.php?$args does. Default: 404.
	FrontController bool `yaml:"front_controller"`
	// Static is the http upstream that is asked for what is not a script. Default: files below root are served.
	Static string `yaml:"static"`
	// Internal is the directories whose files a script may name in X-Accel-Redirect, by the prefix of their URIs:
	// { "/protected/": /srv/files/ } is nginx's location ^~ /protected/ { internal; alias /srv/files/; }. Clients get 404
	// there. Absolute, and outside of root; or below it, with its own path as the prefix. Default: such an answer is a 502.
	Internal map[string]string `yaml:"internal"`
	// Sendfile is the directories whose files a script may name in X-Sendfile, by their absolute path, as XSendFilePath of
	// Apache's mod_xsendfile: [/srv/files]. Clients get 404 in one that is below root. Default: such an answer is a 502.
	Sendfile []string `yaml:"sendfile"`
	// ServerName is SERVER_NAME, as nginx's server_name is. Default "".
	ServerName string `yaml:"server_name"`
	// Params are further parameters, which replace those of the same name: { HTTPS: "on", APP_ENV: prod }.
	Params map[string]string `yaml:"params"`
	// MaxConnections bounds the children of php-fpm that are taken: each kept connection holds one. Keep it below
	// pm.max_children; copies of reads take one more. Default 4: Debian's pool has 5 children.
	MaxConnections int `yaml:"max_connections"`
	// IdleTimeout is how long an unused connection holds its child. Default 4s.
	IdleTimeout time.Duration `yaml:"idle_timeout"`
	// RequestsPerConnection closes a connection after so many. 1 where pm.max_requests is set: a request that meets a
	// leaving child on a kept connection is lost, and answered with 502. Default 0: any number.
	RequestsPerConnection int `yaml:"requests_per_connection"`
	// Spool stores a body that does not come at once in a temporary file first, so that a slow client holds no child.
	// Default: bodies stream.
	Spool bool `yaml:"spool"`
}

// Ledger is where findings and evidence are kept.
type Ledger struct {
	Postgres string `yaml:"postgres"`
}

// LegacyDB is legacy's own database: one of the two.
type LegacyDB struct {
	MySQL     string    `yaml:"mysql"`     // user:password@tcp(host:3306)/game
	Postgres  string    `yaml:"postgres"`  // postgres://…
	Annotated bool      `yaml:"annotated"` // every SQL statement of a request carries the write's id: what carries none is nobody's
	Changelog Changelog `yaml:"changelog"`
}

// Changelog is how the change log is read.
type Changelog struct {
	ServerID    uint32 `yaml:"server_id"`   // MariaDB: of this reader among the replicas; default 4711
	Slot        string `yaml:"slot"`        // PostgreSQL: default "banyan"
	Publication string `yaml:"publication"` // PostgreSQL: default "banyan"
}

// PlainRoute sends new functionality to its new service from day one.
type PlainRoute struct {
	Name  string      `yaml:"name"`
	Match route.Match `yaml:"match"`
	To    string      `yaml:"to"`
	// Upgrade is what a connection may be switched to (RFC 9110 7.8), "websocket" or a list; it then carries whatever
	// both sides say until they end it. Default: none; a request that asks for one goes on as a plain request.
	Upgrade Protocols `yaml:"upgrade"`
}

// Migration is what is moved together: one kind of entity, its writes, its reads, its read model, its evidence.
type Migration struct {
	Legacy    string                     `yaml:"legacy"`    // upstream; default "legacy"
	Candidate string                     `yaml:"candidate"` // upstream
	OrderBy   string                     `yaml:"order_by"`  // the ordering key: a template over the parameters, e.g. "match/{match}"
	Dispatch  string                     `yaml:"dispatch"`  // URL of the service's command handler, instead of `events:`
	WhenFull  string                     `yaml:"when_full"` // fail_open (default) or fail_closed
	Writes    []Write                    `yaml:"writes"`
	Reads     []Read                     `yaml:"reads"`
	Rows      map[string]translate.Table `yaml:"rows"`
	// OutOfScope names "table" or "table.column" whose changes by legacy itself nothing that is moved shows.
	OutOfScope []string        `yaml:"out_of_scope"`
	ReadModel  *ReadModel      `yaml:"read_model"`
	State      []State         `yaml:"state"`
	Gates      map[string]Gate `yaml:"gates"`
}

// Write is a write route.
type Write struct {
	Name    string              `yaml:"name"`
	Match   route.Match         `yaml:"match"`
	Params  map[string]string   `yaml:"params"`
	Applied string              `yaml:"applied"` // condition on the answer; default: status < 400
	Events  []translate.Mapping `yaml:"events"`
}

// Read is a read route.
type Read struct {
	Name          string            `yaml:"name"`
	Match         route.Match       `yaml:"match"`
	Params        map[string]string `yaml:"params"`
	CandidatePath string            `yaml:"candidate_path"` // request target at the candidate, a template over the parameters
	Repeatable    bool              `yaml:"repeatable"`     // legacy may be asked a second time for it
	Wait          time.Duration     `yaml:"wait"`           // at live, at most, for what the session wrote or was shown; then legacy answers; default: as long as legacy takes to answer, 2ms to 100ms
	Tables        []string          `yaml:"tables"`         // what it shows: changes of other tables do not matter to its comparison; default: every mapped one
	Compare       []diff.Rule       `yaml:"compare"`
}

// ReadModel is where a migration's projection lives, and how events are applied.
type ReadModel struct {
	Postgres  string                      `yaml:"postgres"`
	Redis     string                      `yaml:"redis"`     // redis://host:6379/0; none: PostgreSQL alone
	Schema    string                      `yaml:"schema"`    // file with the DDL of the squad's tables
	On        map[string]project.Handler  `yaml:"on"`        // "game.unit.moved@2": file with the SQL that applies it
	Documents map[string]project.Document `yaml:"documents"` // Redis documents by name
	Batch     int                         `yaml:"batch"`     // events of one transaction at most; default 5000
}

// State is a comparison of rows: two queries with the same columns, the first being the entity's id.
type State struct {
	Entity    string      `yaml:"entity"`    // template over the columns, e.g. "unit/{id}"
	Key       string      `yaml:"key"`       // ordering key, a template over the columns; default: order_by
	Tables    []string    `yaml:"tables"`    // legacy tables that the query reads
	Legacy    string      `yaml:"legacy"`    // SELECT
	Candidate string      `yaml:"candidate"` // SELECT
	Compare   []diff.Rule `yaml:"compare"`
	Sweep     Sweep       `yaml:"sweep"`
}

// Sweep verifies all keys, again and again.
type Sweep struct {
	Every         time.Duration `yaml:"every"`           // default 10m
	RowsPerSecond int           `yaml:"rows_per_second"` // default 20000
}

// Gate is what a flip forward to a stage needs. Zero values ask for nothing.
type Gate struct {
	Pairs              int     `yaml:"pairs"`                // distinct pairs compared
	MismatchUpperBound Percent `yaml:"mismatch_upper_bound"` // at 95 % confidence
	Undecided          Percent `yaml:"undecided"`            // of all pairs asked; default 20%
	Sweep              string  `yaml:"sweep"`                // complete: every key verified
	Unexplained        string  `yaml:"unexplained"`          // named: every dark and unattributed source is mapped or out of scope
	LatencyP99         Factor  `yaml:"latency_p99"`          // candidate's p99 against legacy's
}
