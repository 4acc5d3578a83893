// Package query answers the game's polling reads from the read models, with the same JSON that legacy gives.
//
// It promises: an answer is made of one Redis document, or of one PostgreSQL snapshot when Redis has not got it, is behind
// or away; the field Banyan-Position says between which two of legacy's positions it is; what legacy computes when it shows
// it (stocks, journeys' rest) is computed when it is shown. A player sees what belongs to its own match only. Who the
// player is, the proxy says: this service must not be reachable past it.
//
// It leaves to others: keeping the documents (banyan's projection), and comparing (banyan). It fails with 503 when neither
// store answers: then the proxy asks legacy.
package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"banyan/cmd/gameservice/internal/economy"
	"banyan/proxy/event"
	"banyan/shadow/readmodel"
)

// PositionHeader is where the proxy reads how fresh an answer is.
const PositionHeader = "Banyan-Position"

// GenerationHeader is where the proxy reads which generation of the read model an answer was made from.
const GenerationHeader = "Banyan-Generation"

// Model is one generation of a read model: its documents and the tables behind them.
type Model struct {
	Generation int
	Redis      *readmodel.Redis // nil: PostgreSQL alone
	Postgres   *readmodel.Postgres
}

// Source gives the generation to read from now on, until release is called; it fails when it is not known which.
type Source interface {
	Model(ctx context.Context) (m Model, release func(), err error)
}

// Config of the query side.
type Config struct {
	Units, Economy Source
	Partitions     int32
	SQL            fs.FS         // the documents' statements, the same that the projection renders with
	Stale          time.Duration // Redis is asked no further when its progress is older; default 5s
	Now            func() time.Time
	Log            *slog.Logger
}

// Handler serves the reads.
type Handler struct {
	cfg     Config
	mux     *http.ServeMux
	members *members
	sql     map[string]string
}

// New reads the statements.
func New(cfg Config) (*Handler, error) {
	if cfg.Stale == 0 {
		cfg.Stale = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Handler{cfg: cfg, mux: http.NewServeMux(), members: newMembers(100_000), sql: map[string]string{}}
	for _, name := range []string{"units/map_document.sql", "units/units_document.sql", "economy/resources_document.sql", "economy/trades_document.sql"} {
		b, err := fs.ReadFile(cfg.SQL, name)
		if err != nil {
			return nil, fmt.Errorf("statement of a document: %w", err)
		}
		h.sql[name] = string(b)
	}
	h.mux.HandleFunc("GET /matches/{match}/map", h.inMatch(h.gameMap))
	h.mux.HandleFunc("GET /matches/{match}/players/{of}/units", h.inMatch(h.units))
	h.mux.HandleFunc("GET /matches/{match}/trades", h.inMatch(h.trades))
	h.mux.HandleFunc("GET /players/{player}/resources", h.inMatch(h.resources))
	return h, nil
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// asked is a read by somebody who may.
type asked struct {
	*http.Request
	match, player  int64
	order          event.OrderingKey
	now            time.Time
	units, economy Model // the same for the whole answer, whatever becomes the current one meanwhile
}

// answer is the JSON of an answer and the positions that it lies between.
type answer struct {
	body          []byte
	before, after event.Position
	generation    int
}

// inMatch finds out who asks for what, and refuses strangers as legacy does.
func (h *Handler) inMatch(answerTo func(asked) (answer, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		match, err1 := id(r, "match")
		player, err2 := id(r, "player")
		if err := errors.Join(err1, err2); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		q := asked{Request: r, match: match, player: player, order: event.OrderingKey("match/" + strconv.FormatInt(match, 10)), now: h.cfg.Now()}
		release, err := h.models(&q)
		home := int64(0)
		if err == nil {
			defer release()
			home, err = h.members.match(r.Context(), q.units.Postgres, player)
		}
		var a answer
		switch {
		case err != nil:
		case home == 0:
			err = errors.New("the player is not in the read model") // a new one, perhaps: legacy knows
		case home != match:
			a = refused("match")
		default:
			a, err = answerTo(q)
		}
		if err != nil {
			h.cfg.Log.Error("read not answered", "path", r.URL.Path, "err", err)
			http.Error(w, "the read model does not answer", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
		if a.after > 0 {
			w.Header().Set(PositionHeader, a.before.String()+"-"+a.after.String())
			w.Header().Set(GenerationHeader, strconv.Itoa(a.generation))
		}
		_, _ = w.Write(a.body) // the client may be gone
	}
}

// models are the generations that are current now.
func (h *Handler) models(q *asked) (release func(), err error) {
	units, first, err := h.cfg.Units.Model(q.Context())
	if err != nil {
		return nil, err
	}
	economy, second, err := h.cfg.Economy.Model(q.Context())
	if err != nil {
		first()
		return nil, err
	}
	q.units, q.economy = units, economy
	return func() { first(); second() }, nil
}

// id is a number of the path or the query.
func id(r *http.Request, name string) (int64, error) {
	s := r.PathValue(name)
	if s == "" {
		s = r.URL.Query().Get(name)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s: %q is not an id", name, s)
	}
	return n, nil
}

func refused(code string) answer { return answer{body: []byte(`{"ok":false,"error":"` + code + `"}`)} }

// open is the beginning of an answer, before the members of its document.
func (q *asked) open() []byte {
	return strconv.AppendInt([]byte(`{"ok":true,"server_time":`), q.now.Unix(), 10)
}

// spread makes an answer of a document whose members are the answer's.
func (q *asked) spread(d document) answer {
	b := append(q.open(), ',')
	return answer{append(b, d.json[1:]...), d.before, d.after, d.generation}
}

func (h *Handler) gameMap(q asked) (answer, error) {
	d, err := h.document(q.Context(), q.units, q.order, fmt.Sprintf("match:%d:map", q.match), "units/map_document.sql", "match", q.match)
	if err != nil {
		return answer{}, err
	}
	return q.spread(d), nil
}

func (h *Handler) trades(q asked) (answer, error) {
	d, err := h.document(q.Context(), q.economy, q.order, fmt.Sprintf("match:%d:trades", q.match), "economy/trades_document.sql", "match", q.match)
	if err != nil {
		return answer{}, err
	}
	return q.spread(d), nil
}

// unit is one of a units document, and of its answer: Match is not shown, ArrivesIn not stored.
type unit struct {
	ID         int64   `json:"id"`
	Type       string  `json:"type"`
	Name       string  `json:"name"`
	Province   int64   `json:"province"`
	HP         int64   `json:"hp"`
	Strength   int64   `json:"strength"`
	Experience int64   `json:"experience"`
	Target     int64   `json:"target"`
	ArrivesAt  *int64  `json:"arrives_at"`
	ArrivesIn  int64   `json:"arrives_in"`
	Stance     *string `json:"stance"`
	ClientRef  string  `json:"client_ref"`
	Match      int64   `json:"match,omitempty"`
}

func (h *Handler) units(q asked) (answer, error) {
	of := leadingInt(q.PathValue("of"))
	d, err := h.document(q.Context(), q.units, q.order, fmt.Sprintf("player:%d:units", of), "units/units_document.sql", "player", of)
	if err != nil {
		return answer{}, err
	}
	var doc struct{ Units []unit }
	if err := json.Unmarshal(d.json, &doc); err != nil {
		return answer{}, fmt.Errorf("units of player %d: %w", of, err)
	}
	shown := make([]unit, 0, len(doc.Units))
	for _, u := range doc.Units {
		if u.Match != q.match {
			continue
		}
		u.Match = 0
		if u.ArrivesAt != nil {
			u.ArrivesIn = max(0, *u.ArrivesAt-q.now.Unix())
		}
		shown = append(shown, u)
	}
	list, err := json.Marshal(shown)
	if err != nil {
		return answer{}, err
	}
	b := strconv.AppendInt(append(q.open(), `,"player":`...), of, 10)
	b = append(append(b, `,"units":`...), list...)
	return answer{append(b, '}'), d.before, d.after, d.generation}, nil
}

// leadingInt reads a player's id as clients may write it: legacy takes the digits at its beginning.
func leadingInt(s string) int64 {
	s = strings.TrimLeft(s, " \t\n\r\v\f")
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && (s[0] == '-' || s[0] == '+')) {
		end++
	}
	n, err := strconv.ParseInt(s[:end], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// purse is the answer about resources.
type purse struct {
	Player    int64   `json:"player_id"`
	Gold      float64 `json:"gold"`
	Wood      float64 `json:"wood"`
	Iron      float64 `json:"iron"`
	Rates     rates   `json:"rates"`
	Storage   int64   `json:"storage"`
	UpdatedAt int64   `json:"updated_at"`
}

type rates struct {
	Gold float64 `json:"gold"`
	Wood float64 `json:"wood"`
	Iron float64 `json:"iron"`
}

// resources shows the stocks as of now. Legacy ticks here; we compute and write nothing.
func (h *Handler) resources(q asked) (answer, error) {
	if of := q.URL.Query().Get("of"); of != "" && of != strconv.FormatInt(q.player, 10) {
		return refused("notyours"), nil
	}
	d, err := h.document(q.Context(), q.economy, q.order, fmt.Sprintf("player:%d:resources", q.player), "economy/resources_document.sql", "player", q.player)
	if err != nil {
		return answer{}, err
	}
	var row economy.PurseData
	if err := json.Unmarshal(d.json, &row); err != nil {
		return answer{}, fmt.Errorf("resources of player %d: %w", q.player, err)
	}
	p := row.Purse().At(q.now.Unix())
	body, err := json.Marshal(purse{p.Player, economy.Shown(p.Stock[economy.Gold]), economy.Shown(p.Stock[economy.Wood]), economy.Shown(p.Stock[economy.Iron]),
		rates{p.Rate[economy.Gold], p.Rate[economy.Wood], p.Rate[economy.Iron]}, p.Storage, p.UpdatedAt})
	if err != nil {
		return answer{}, err
	}
	return q.spread(document{json: body, before: d.before, after: d.after, generation: d.generation}), nil
}

// lookup asks PostgreSQL once.
func lookup(ctx context.Context, pg *readmodel.Postgres, sql string, args ...any) (event.Values, error) {
	s, err := pg.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close(ctx)
	rows, err := s.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var out event.Values
	for v := range rows.All() {
		out = v
	}
	return out, rows.Err()
}
