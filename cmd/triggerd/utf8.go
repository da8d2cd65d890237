package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// notUTF8 returns the position of the first byte, from 1, that is not UTF-8; 0
// if all are.
func notUTF8(text string) int {
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && size == 1 {
			return at + 1
		}
		at += size
	}
	return 0
}

// checkText returns an error if a text is not UTF-8. It names the text, but
// does not show it, because it may be a secret.
func checkText(name, text string) error {
	if at := notUTF8(text); at > 0 {
		return fmt.Errorf("%s must be UTF-8; its byte %d is not", name, at)
	}
	return nil
}

// checkArguments returns an error if an argument is not UTF-8. The parser would
// replace invalid bytes with U+FFFD, and so make two different arguments equal.
func checkArguments(parser *kong.Kong, args []string) error {
	taking := map[string]bool{} // flags that take a value
	_ = kong.Visit(parser.Model, func(at kong.Visitable, next kong.Next) error {
		if node, ok := at.(*kong.Node); ok {
			for _, flag := range node.Flags {
				taking["--"+flag.Name] = !flag.IsBool()
			}
		}
		return next(nil)
	})
	for i, arg := range args {
		name, value := fmt.Sprintf("argument %d", i+1), arg
		flag, given, ok := strings.Cut(arg, "=")
		switch {
		case ok && strings.HasPrefix(flag, "--") && notUTF8(flag) == 0:
			name, value = flag, given
		case i > 0 && taking[args[i-1]]:
			name = args[i-1]
		}
		if err := checkText(name, value); err != nil {
			return err
		}
	}
	return nil
}
