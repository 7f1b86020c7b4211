package main

import (
	"fmt"
	"strings"
)

// A dotenv reads the text of a .env file.
type dotenv struct {
	rest string
	line int // that rest begins in
}

// parseDotenv adds the variables of a .env file. Its errors name lines and no
// content, which may be a value.
func (in *importSource) parseDotenv(text string) error {
	d := dotenv{strings.ReplaceAll(text, "\r\n", "\n"), 1}
	for d.rest != "" {
		name, value, err := d.next()
		if err != nil {
			return err
		}
		if name == "" {
			continue
		}
		if err := in.add("", name, value); err != nil {
			return err
		}
	}
	return nil
}

// take returns the first n bytes, and goes on behind them.
func (d *dotenv) take(n int) string {
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	d.line += strings.Count(taken, "\n")
	return taken
}

// takeLine returns the rest of the line, without its end.
func (d *dotenv) takeLine() string {
	at := strings.IndexByte(d.rest, '\n') + 1
	if at == 0 {
		at = len(d.rest)
	}
	return strings.TrimSuffix(d.take(at), "\n")
}

const blanks = " \t"

// next reads one variable, or a line without one.
func (d *dotenv) next() (name, value string, err error) {
	began := d.line
	d.take(len(d.rest) - len(strings.TrimLeft(d.rest, blanks)))
	if d.rest == "" || d.rest[0] == '\n' || d.rest[0] == '#' {
		d.takeLine()
		return "", "", nil
	}
	if at := strings.IndexAny(d.rest, "=\n"); at >= 0 && d.rest[at] == '=' {
		name = strings.TrimRight(d.take(at + 1)[:at], blanks)
	}
	if exported, ok := strings.CutPrefix(name, "export"); ok && strings.Trim(exported, blanks) != exported {
		name = strings.TrimLeft(exported, blanks)
	}
	if !valueName.MatchString(name) {
		return "", "", fmt.Errorf("line %d must be NAME=value, a comment or empty", began)
	}
	trimmed := strings.TrimLeft(d.rest, blanks)
	if trimmed == "" || trimmed[0] != '"' && trimmed[0] != '\'' {
		return name, unquoted(d.takeLine()), nil
	}
	d.take(len(d.rest) - len(trimmed))
	value, closed := d.quoted()
	if !closed {
		return "", "", fmt.Errorf("line %d begins a quote that is never closed", began)
	}
	ended := d.line
	if after := strings.TrimLeft(d.takeLine(), blanks); after != "" && after[0] != '#' {
		return "", "", fmt.Errorf("line %d has text behind the closing quote", ended)
	}
	return name, value, nil
}

// unquoted returns a value without the comment behind it: a # that follows a blank.
func unquoted(text string) string {
	for i := 1; i < len(text); i++ {
		if text[i] == '#' && strings.IndexByte(blanks, text[i-1]) >= 0 {
			text = text[:i]
			break
		}
	}
	return strings.Trim(text, blanks)
}

// dotenvEscapes are those of double quotes. A backslash before anything else
// stays one.
var dotenvEscapes = map[byte]string{'n': "\n", 'r': "\r", 't': "\t", '"': `"`, '\\': `\`, '$': "$", '`': "`"}

// quoted reads a quoted value, which may have several lines. In single quotes
// everything stands for itself.
func (d *dotenv) quoted() (value string, closed bool) {
	quote := d.rest[0]
	var text strings.Builder
	for i := 1; i < len(d.rest); i++ {
		c := d.rest[i]
		switch {
		case c == quote:
			d.take(i + 1)
			return text.String(), true
		case c == '\\' && quote == '"' && i+1 < len(d.rest):
			i++
			if plain, ok := dotenvEscapes[d.rest[i]]; ok {
				text.WriteString(plain)
			} else {
				text.WriteString(d.rest[i-1 : i+1])
			}
		default:
			text.WriteByte(c)
		}
	}
	return "", false
}
