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

// fromEnvironment returns a resolver that sets flags from the environment. An
// empty value counts as unset. The value of a secret may be in a file instead,
// which another variable names: ADMIN_TOKEN_FILE for ADMIN_TOKEN.
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
		if err := checkText(name, value); err != nil { // the parser would replace invalid bytes with U+FFFD
			return nil, &variableError{err}
		}
		if value == "" {
			return nil, nil
		}
		return value, nil
	})
}

// variableError is an error that names an invalid variable.
type variableError struct{ error }

// maxSecretFile is the maximum size of a file with a secret, in bytes.
const maxSecretFile = 64 << 10

// readSecret reads a file without its trailing newlines. It reads a pipe only
// if the process was started with it, because otherwise the open could block.
// No error contains any of the content.
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

// variableOf returns the environment variable of a flag, for example DATA_DIR
// for --data-dir, or "" if there is none. The flag's tags may set another name,
// or none; the flags of the client have a variable only if their tags name it.
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

// helpWithEnvironment appends the environment variables of a flag to its help.
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
