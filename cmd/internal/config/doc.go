// Package config is the one YAML file, banyan.yaml: its shape, its positions, its errors.
//
// It promises: all errors at once, each with file, line, column, the path of the field and a hint; unknown keys are
// errors; units are written out (250ms, 1MiB, 5%); secrets come from ${NAME} or ${file:/path} and are never printed.
// It leaves the meaning of the parts to the packages whose structs they are, and calls their Validate; it leaves
// constructing anything to package role. It fails with [Errors].
package config
