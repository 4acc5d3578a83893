package changelog

import (
	"bytes"

	"banyan/proxy/event"
)

var annotationOpen = []byte("/*banyan:id=")

// maxWriteID bounds the text of a write id: a replica's name and two numbers.
const maxWriteID = 32 + 1 + 20 + 1 + 20

// Annotation is the write id that a statement carries as its first or last comment, /*banyan:id=…*/. It is looked for
// nowhere else: inside the statement, a player's text could pretend to be one.
func Annotation(sql []byte) (event.WriteID, bool) {
	s := bytes.TrimLeft(sql, " \t\r\n")
	if bytes.HasPrefix(s, annotationOpen) {
		return annotationID(s[len(annotationOpen):], false)
	}
	s = bytes.TrimRight(s, " \t\r\n;")
	if !bytes.HasSuffix(s, []byte("*/")) {
		return event.WriteID{}, false
	}
	at := bytes.LastIndex(s, []byte("/*"))
	if at < 0 || !bytes.HasPrefix(s[at:], annotationOpen) {
		return event.WriteID{}, false
	}
	return annotationID(s[at+len(annotationOpen):], true)
}

func annotationID(s []byte, last bool) (event.WriteID, bool) {
	end := bytes.Index(s, []byte("*/"))
	if end < 0 || end > maxWriteID || last && end != len(s)-2 {
		return event.WriteID{}, false
	}
	id, err := event.ParseWriteID(string(s[:end]))
	return id, err == nil
}
