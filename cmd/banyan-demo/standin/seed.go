package standin

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Size is how much there is of what. All but Matches are per match; zero takes the default.
type Size struct {
	Matches   int // 6
	Players   int // 40
	Provinces int // 60, at least one per player
	Units     int // 400
	Seed      int // 1; the same seed and Now make the same world as seed.php does
	Now       time.Time
}

func (s Size) withDefaults() Size {
	s.Matches, s.Players = cmp.Or(s.Matches, 6), cmp.Or(s.Players, 40)
	s.Provinces, s.Units = cmp.Or(s.Provinces, 60), cmp.Or(s.Units, 400)
	s.Seed = cmp.Or(s.Seed, 1)
	if s.Now.IsZero() {
		s.Now = time.Now()
	}
	return s
}

func (s Size) validate() error {
	if s.Matches < 1 || s.Players < 1 || s.Provinces < s.Players || s.Units < 0 {
		return fmt.Errorf("stand-in: %d matches, %d players, %d provinces, %d units: every player needs a province for the capital", s.Matches, s.Players, s.Provinces, s.Units)
	}
	return nil
}

// world is the seeder. Its draws stand in the order of seed.php, on which the world depends.
type world struct {
	size     Size
	db       *db
	rng      *mersenne
	next     map[string]int // ids
	pending  map[string]*batch
	password string
}

// batch is rows that wait until there are enough for one INSERT.
type batch struct {
	columns string
	rows    []string
}

var (
	syllables = []string{"Al", "Bran", "Cor", "Dun", "Els", "Fal", "Grün", "Hal", "Iv", "Jor", "Köln", "Lor", "Mühl", "Nor", "Ost", "Präg", "Rö", "Sankt ", "Tre", "Wal"}
	endings   = []string{"burg", "dorf", "feld", "heim", "mark", "stadt", "tal", "wick", "haven", "forêt"}
)

func seed(d *db, size Size) {
	w := &world{size: size, db: d, rng: newMersenne(uint32(size.Seed)), pending: map[string]*batch{}, password: passwordHash("secret"),
		next: map[string]int{"players": 1, "provinces": 1, "units": 1}}
	for m := 1; m <= size.Matches; m++ {
		w.match(m)
	}
	for _, table := range slices.Sorted(maps.Keys(w.pending)) {
		w.flush(table)
	}
}

func passwordHash(password string) string {
	sum := md5.Sum([]byte("Kettenhemd" + password))
	return hex.EncodeToString(sum[:])
}

// add takes strings, numbers, and times, of which the zero is NULL.
func (w *world) add(table, columns string, values ...any) {
	texts := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case string:
			texts[i] = quote(v)
		case time.Time:
			texts[i] = sqlTime(v)
		default:
			texts[i] = fmt.Sprint(v)
		}
	}
	b := w.pending[table]
	if b == nil {
		b = &batch{columns: columns}
		w.pending[table] = b
	}
	b.rows = append(b.rows, "("+strings.Join(texts, ", ")+")")
	if len(b.rows) >= 500 {
		w.flush(table)
	}
}

func (w *world) flush(table string) {
	b := w.pending[table]
	if len(b.rows) > 0 {
		w.db.query("INSERT INTO " + table + " (" + b.columns + ") VALUES " + strings.Join(b.rows, ", "))
	}
	b.rows = nil
}

// sqlTime is a literal; the zero date is NULL.
func sqlTime(t time.Time) string {
	if t.IsZero() {
		return "NULL"
	}
	return "'" + t.UTC().Format(time.DateTime) + "'"
}

func (w *world) id(table string) int {
	w.next[table]++
	return w.next[table] - 1
}

func (w *world) place() string { return w.rng.pick(syllables) + w.rng.pick(endings) }

// unless is value in one of n cases, the empty one otherwise: mt_rand(0, n - 1) ? ” : value.
func unless[T any](w *world, n int, value func() T) (v T) {
	if w.rng.between(0, n-1) == 0 {
		v = value()
	}
	return v
}

func (w *world) match(m int) {
	width := int(math.Ceil(math.Sqrt(float64(w.size.Provinces))))
	height := int(math.Ceil(float64(w.size.Provinces) / float64(width)))
	name := fmt.Sprintf("Match %d of %s", m, w.place())
	w.add("matches", "id, name, width, height, started_at", m, name, width, height, w.size.Now.Add(-24*time.Hour*time.Duration(w.rng.between(2, 40))))

	players := make([]int, w.size.Players)
	for i := range players {
		players[i] = w.id("players")
		w.player(m, i+1, players[i])
	}
	provinces := w.provinces(m, width, players)
	w.units(m, players, provinces)
	w.diplomacy(m, players)
	w.post(m, players)
}

func (w *world) player(m, i, id int) {
	rng, now := w.rng, w.size.Now
	settings := array{{"lang", rng.pick([]string{"de", "en", "fr"})}, {"sound", rng.between(0, 1) == 1}, {"logins", int64(0)}}
	name := fmt.Sprintf("p%d_%d", m, i)
	color := fmt.Sprintf("%02x%02x%02x", rng.between(120, 250), rng.between(120, 250), rng.between(120, 250))
	score := rng.between(0, 500)
	signature := unless(w, 4, func() string { return "Grüße aus " + w.place() })
	premium := unless(w, 5, func() string { return strconv.FormatInt(now.Unix()+86400*int64(rng.between(1, 90)), 10) })
	npc := unless(w, 20, func() int { return 1 })
	seen := now
	if rng.between(0, 2) == 0 {
		seen = time.Time{}
	}
	admin := 0
	if i == 1 {
		admin = 1
	}
	w.add("players", "id, match_id, name, email, password, color, score, settings, signature, premium_until, is_admin, is_npc, last_seen",
		id, m, name, name+"@example.org", w.password, color, score, serialize(settings), signature, premium, admin, npc, seen)

	stock := func(low, high int) string { return floatText(float64(rng.between(low, high)) / 100) }
	gold, wood, iron := stock(50000, 400000), stock(50000, 400000), stock(20000, 200000)
	w.add("resources", "player_id, match_id, gold, wood, iron, gold_rate, wood_rate, iron_rate, updated_at",
		id, m, quoted(gold), quoted(wood), quoted(iron), rng.between(10, 100)*6, rng.between(10, 80)*6, rng.between(5, 50)*6, now.Unix())
}

// quoted is SQL that is a literal already.
type quoted string

func (w *world) provinces(m, width int, players []int) []int {
	rng, now, n := w.rng, w.size.Now, w.size.Provinces
	ids := make([]int, n)
	for i := range ids {
		ids[i] = w.id("provinces")
		capital, owner := 0, 0
		if i < len(players) {
			capital, owner = 1, players[i]
		} else if rng.between(0, 2) != 0 {
			owner = players[rng.between(0, len(players)-1)]
		}
		cell := i * 7 % n // capitals are spread over the map
		if n%7 == 0 {
			cell = i
		}
		level := 0
		if capital == 1 {
			level = rng.between(1, 4)
		} else if owner != 0 {
			level = rng.between(0, 2)
		}
		name, terrain := w.place(), rng.pick([]string{"plain", "forest", "hill"})
		tax := unless(w, 4, func() string { return strconv.Itoa(rng.between(0, 30)) })
		var built time.Time
		if level > 0 {
			built = now.Add(-time.Duration(rng.between(3600, 864000)) * time.Second)
		}
		w.add("provinces", "id, match_id, name, x, y, terrain, owner_id, level, tax, is_capital, built_at",
			ids[i], m, name, cell%width, cell/width, terrain, owner, level, tax, capital, built)
	}
	return ids
}

func (w *world) units(m int, players, provinces []int) {
	rng := w.rng
	types := make([]string, len(unitTypes))
	for i, t := range unitTypes {
		types[i] = t.name
	}
	for i := range w.size.Units {
		// everybody has some, the rest goes where it goes
		home := provinces[i%len(players)]
		if rng.between(0, 3) == 0 {
			home = provinces[rng.between(0, len(provinces)-1)]
		}
		kind := rng.pick(types)
		name := ucfirst(kind) + " of " + w.place()
		hp := rng.between(60, 100)
		experience := unless(w, 3, func() string { return strconv.Itoa(rng.between(1, 300)) })
		orders := array{{"stance", rng.pick(stances)}, {"queue", array{}}}
		w.add("units", "id, match_id, player_id, province_id, type, name, hp, strength, experience, orders",
			w.id("units"), m, players[i%len(players)], home, kind, name, hp, unitType(kind).strength, experience, serialize(orders))
	}
}

// diplomacy: neighbours in the list made their peace, or not.
func (w *world) diplomacy(m int, players []int) {
	for i := 0; i+1 < len(players); i += 3 {
		status := w.rng.pick(relations)
		w.add("diplomacy", "match_id, player_id, other_id, status, since", m, players[i], players[i+1], status, w.size.Now)
		w.add("diplomacy", "match_id, player_id, other_id, status, since", m, players[i+1], players[i], status, w.size.Now)
	}
}

func (w *world) post(m int, players []int) {
	rng, now := w.rng, w.size.Now
	somebody := func() int { return players[rng.between(0, len(players)-1)] }
	for i := 0; 2*i < len(players); i++ {
		from, to := somebody(), somebody()
		w.add("messages", "match_id, from_id, to_id, subject, body, sent_at", m, from, to, "Für "+w.place(), "Shall we share it?\nYours", now)
		give, seller := rng.between(0, 2), somebody()
		w.add("trades", "match_id, seller_id, give_type, give_amount, want_type, want_amount, created_at, expires_at",
			m, seller, goods[give], rng.between(1, 20)*5, goods[(give+1)%3], rng.between(1, 20)*5, now, now.Add(tradeTime))
	}
}
