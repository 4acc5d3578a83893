package diff

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// Column is one column of a row as a database driver delivers it.
type Column struct {
	Name  string
	Value any
}

// FromRow makes an object of a row. It knows nil, bool, every integer and
// float, string, []byte (a string), time.Time (an instant), json.Number and
// Value; another type is an error that names the column. A float that is no
// number becomes the string NaN, +Inf or -Inf.
func FromRow(columns []Column) (Value, error) {
	row := Value{kind: Object, names: make([]string, len(columns)), items: make([]Value, len(columns))}
	for i, c := range columns {
		v, err := fromAny(c.Value)
		if err != nil {
			return Value{}, fmt.Errorf("column %q: %w", c.Name, err)
		}
		row.names[i], row.items[i] = c.Name, v
	}
	row.dropRepeated()
	return row, nil
}

// FromMap is FromRow for a map; the members come sorted by name.
func FromMap(row map[string]any) (Value, error) {
	columns := make([]Column, 0, len(row))
	for _, name := range slices.Sorted(maps.Keys(row)) {
		columns = append(columns, Column{name, row[name]})
	}
	return FromRow(columns)
}

func fromAny(x any) (Value, error) {
	switch x := x.(type) {
	case nil:
		return NewNull(), nil
	case Value:
		return x, nil
	case bool:
		return NewBool(x), nil
	case string:
		return NewString(x), nil
	case []byte:
		if x == nil {
			return NewNull(), nil
		}
		return NewString(string(x)), nil
	case time.Time:
		return NewInstant(x), nil
	case json.Number:
		if v, ok := NewNumber(x.String()); ok {
			return v, nil
		}
		return Value{}, fmt.Errorf("%q is not a number", x.String())
	case float32:
		return fromFloat(float64(x), 32), nil
	case float64:
		return fromFloat(x, 64), nil
	}
	return fromInteger(x)
}

func fromInteger(x any) (Value, error) {
	switch x := x.(type) {
	case int64: // what drivers deliver
		return Value{kind: Number, text: strconv.FormatInt(x, 10)}, nil
	case int, int8, int16, int32, uint, uint8, uint16, uint32, uint64:
		return Value{kind: Number, text: fmt.Sprint(x)}, nil
	default:
		return Value{}, fmt.Errorf("type %T is not a column's; convert it before it is compared", x)
	}
}

func fromFloat(f float64, bits int) Value {
	text := strconv.FormatFloat(f, 'g', -1, bits)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return NewString(text)
	}
	return Value{kind: Number, text: text}
}
