package php

import "strings"

// Split is Canonical for who runs the script: path is decoded and clean, path[:end] is the script's part of it and
// the rest is PATH_INFO. A directory's path ends in '/', and a path that names no script has end 0.
func (Nginx) Split(target []byte) (path string, end int, query []byte, err error) {
	raw, query, err := split(target)
	if err != nil {
		return "", 0, nil, err
	}
	if path, err = resolve(raw); err != nil {
		return "", 0, nil, err
	}
	run := script(path)
	if len(run) <= len(path) && strings.HasSuffix(run, ".php") && !strings.HasSuffix(run, "/.php") {
		return path, len(run), query, nil
	}
	return path, 0, query, nil
}
