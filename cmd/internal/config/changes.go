package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Changes names the fields in which two files differ, as the file spells them: "upstreams.legacy.http". An entry that
// one of them lacks is named as a whole, and so is a list of another length. Values are not told: some are secret.
func Changes(was, is *File) []string {
	var out []string
	changes(&out, "", reflect.ValueOf(was).Elem(), reflect.ValueOf(is).Elem())
	slices.Sort(out)
	return out
}

func changes(out *[]string, path string, a, b reflect.Value) {
	switch {
	case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
		changes(out, path, a.Elem(), b.Elem())
		return
	case a.Kind() == reflect.Struct && len(fieldNames(a.Type())) > 0:
		changedFields(out, path, a, b)
		return
	case a.Kind() == reflect.Map && a.Type().Key().Kind() == reflect.String:
		for _, m := range [][2]reflect.Value{{a, b}, {b, a}} {
			for _, k := range m[0].MapKeys() {
				other := m[1].MapIndex(k)
				if !other.IsValid() {
					*out = append(*out, join(path, k.String()))
				} else if m[0] == a {
					changes(out, join(path, k.String()), m[0].MapIndex(k), other)
				}
			}
		}
		return
	case a.Kind() == reflect.Slice && a.Len() == b.Len():
		for i := range a.Len() {
			changes(out, fmt.Sprintf("%s[%d]", path, i), a.Index(i), b.Index(i))
		}
		return
	}
	if !reflect.DeepEqual(a.Interface(), b.Interface()) {
		*out = append(*out, path)
	}
}

// changedFields compares what the file can set. Others are made of it, or of where it lies.
func changedFields(out *[]string, path string, a, b reflect.Value) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		tag, opts, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case f.Anonymous && (opts == "inline" || tag == ""):
			changes(out, path, a.Field(i), b.Field(i))
		case tag != "" && tag != "-":
			changes(out, join(path, tag), a.Field(i), b.Field(i))
		}
	}
}
