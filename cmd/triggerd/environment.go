package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// fromEnvironment gives flags their values from the environment. An empty value
// counts as unset. The value of a secret may be in a file instead, which another
// variable names: ADMIN_TOKEN_FILE for ADMIN_TOKEN.
func fromEnvironment(env func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		name := variableOf(flag.Value)
		if name == "" {
			return nil, nil
		}
		value := env(name)
		if file := fileVariableOf(flag.Value); file != "" && env(file) != "" {
			if value != "" {
				return nil, &variableError{fmt.Errorf("%s and %s are both set: set only one of them", name, file)}
			}
			content, err := readSecret(env(file))
			if err != nil {
				return nil, &variableError{fmt.Errorf("%s: %w", file, err)}
			}
			name, value = file, content
		}
		if err := checkText(name, value); err != nil { // the parser would replace what is not by U+FFFD
			return nil, &variableError{err}
		}
		if value == "" {
			return nil, nil
		}
		return value, nil
	})
}

// variableError names the variable that is wrong.
type variableError struct{ error }

// maxSecretFile bounds what is read of a file with a secret, in bytes.
const maxSecretFile = 64 << 10

// readSecret reads a file without the newlines at its end. It does not wait for
// anybody to write to a pipe, but for one that the process was started with. No
// error has anything of what is in it.
func readSecret(path string) (string, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() && !isInherited(path) {
		return "", fmt.Errorf("the file %s cannot be read: it must be a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", unreadable(path, err)
	}
	secret := strings.TrimRight(string(content), "\r\n")
	switch {
	case len(content) > maxSecretFile:
		return "", fmt.Errorf("the file %s is over %d bytes", path, maxSecretFile)
	case secret == "":
		return "", fmt.Errorf("the file %s is empty", path)
	case strings.HasPrefix(secret, "\ufeff"):
		return "", fmt.Errorf("the file %s begins with a byte order mark: save it as UTF-8 without one", path)
	case strings.ContainsRune(secret, 0):
		return "", fmt.Errorf("the file %s is not text", path)
	}
	return secret, nil
}

// isInherited reports whether a path names a descriptor that the process was
// started with, for example by a shell's <(command).
func isInherited(path string) bool {
	return path == "/dev/stdin" || strings.HasPrefix(path, "/dev/fd/") || strings.HasPrefix(path, "/proc/self/fd/")
}

func unreadable(path string, err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("the file %s cannot be read: %w", path, err)
}

// variableOf is the environment variable that a flag's value may come from, ""
// if there is none: DATA_DIR for --data-dir, unless the flag's tags have
// another name, or say that there is none, or that only those which have a name
// may, as those of the client.
func variableOf(value *kong.Value) string {
	switch tag := value.Tag; {
	case tag.Get("variable") != "":
		return tag.Get("variable")
	case value.Name == "help" || value.Name == "version" || tag.Get("noenv") != "" || tag.Vars["environment"] == "named":
		return ""
	}
	return environmentName(value.Name)
}

// fileVariableOf returns the environment variable that may name a file with the
// value of a flag, and "" if the flag is not marked as a secret.
func fileVariableOf(value *kong.Value) string {
	if name := variableOf(value); name != "" && value.Tag.Has("secret") {
		return name + "_FILE"
	}
	return ""
}

func environmentName(flag string) string {
	return strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// helpWithEnvironment shows where else a flag's value comes from.
func helpWithEnvironment(value *kong.Value) string {
	if value.Flag == nil || variableOf(value) == "" {
		return value.Help
	}
	from := "$" + variableOf(value)
	if file := fileVariableOf(value); file != "" {
		from += ", $" + file
	}
	return fmt.Sprintf("%s [%s]", value.Help, from)
}
