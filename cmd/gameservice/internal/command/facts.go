package command

import (
	"encoding/json"
	"strconv"
	"time"

	"banyan/cmd/gameservice/internal/economy"
	"banyan/proxy/event"
	"banyan/shadow/dispatch"
)

// facts takes from legacy's rows what only legacy can know: the id of a new trade, and the time on its clock. Amounts are
// not looked at: computing them is what this service is here to prove.
func facts(c *dispatch.Command) economy.Facts {
	f := economy.Facts{Clock: map[int64]int64{}, Now: c.Sent.Unix()}
	for _, e := range c.Effects {
		for i := range e.Rows {
			row := e.Rows[i].Image()
			switch e.Rows[i].Table {
			case "resources":
				f.Clock[number(row["player_id"])] = number(row["updated_at"])
			case "trades":
				if e.Rows[i].Op != event.Insert {
					continue
				}
				f.Trade = number(row["id"])
				if s, ok := row["created_at"].(string); ok {
					if at, err := time.Parse(time.DateTime, s); err == nil {
						f.Now = at.Unix()
					}
				}
			}
		}
	}
	return f
}

// number is an integer of a row or a parameter, 0 if it is none.
func number(v any) int64 {
	s := ""
	switch x := v.(type) {
	case json.Number:
		s = string(x)
	case string:
		s = x
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
