package php

import "strings"

// Split is Canonical for who runs the script: path is decoded and clean, path[:end] is the script's part of it and
// the rest is PATH_INFO. A directory's path ends in '/', and a path that names no script of PHP's own suffix has end 0.
func (n Nginx) Split(target []byte) (path string, end int, query []byte, err error) {
	path, query, err = cleaned(target, n.rules())
	if err != nil {
		return "", 0, nil, err
	}
	if run := cutScript(path).Script; len(run) <= len(path) && strings.HasSuffix(run, ".php") {
		return path, len(run), query, nil
	}
	return path, 0, query, nil
}
