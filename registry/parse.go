package registry

import "encoding/json"

// parser reads JSON as json.Marshal writes it, in one pass and without a copy
// of what is not kept: a start reads every record. Where it meets anything
// else (a space, a null, a name that it does not know) it gives up, and the
// caller leaves the whole to encoding/json, which knows all of the language and
// says what is wrong with what is not of it.
type parser struct {
	data  []byte
	at    int
	gave  bool              // it gave up, and reads nothing any more
	texts map[string]string // strings that many records have, each once in memory
}

// start begins with data.
func (p *parser) start(data []byte) { p.data, p.at, p.gave = data, 0, false }

// done tells whether all of data was read.
func (p *parser) done() bool { return !p.gave && p.at == len(p.data) }

// giveUp ends the reading.
func (p *parser) giveUp() { p.gave, p.at = true, len(p.data) }

// peek tells whether c is next.
func (p *parser) peek(c byte) bool { return p.at < len(p.data) && p.data[p.at] == c }

// take takes c, which must be next.
func (p *parser) take(c byte) {
	if !p.peek(c) {
		p.giveUp()
		return
	}
	p.at++
}

// comma takes a comma, if there is one.
func (p *parser) comma() bool {
	if !p.peek(',') {
		return false
	}
	p.at++
	return true
}

// object reads an object: field is called with each name, to read its value.
func (p *parser) object(field func(name []byte)) {
	p.take('{')
	for more := !p.peek('}'); more && !p.gave; more = p.comma() {
		name := p.plain()
		p.take(':')
		if !p.gave {
			field(name)
		}
	}
	p.take('}')
}

// strings reads an array of strings.
func (p *parser) strings() []string {
	list := []string{}
	p.take('[')
	for more := !p.peek(']'); more && !p.gave; more = p.comma() {
		list = append(list, p.shared())
	}
	p.take(']')
	return list
}

// literal reads a string with its quotes; simple says that what is between them
// is the string, as it is of ASCII without an escape.
func (p *parser) literal() (lit []byte, simple bool) {
	p.take('"')
	simple = true
	for i := p.at; i < len(p.data); i++ {
		switch c := p.data[i]; {
		case c == '"':
			lit = p.data[p.at-1 : i+1]
			p.at = i + 1
			return lit, simple
		case c == '\\':
			simple = false
			i++
		case c < ' ' || c >= 0x80:
			simple = false
		}
	}
	p.giveUp()
	return nil, false
}

// plain reads a string that is simple. It is of data, not a copy.
func (p *parser) plain() []byte {
	lit, simple := p.literal()
	if !simple {
		p.giveUp()
		return nil
	}
	return lit[1 : len(lit)-1]
}

// string reads a string.
func (p *parser) string() string {
	lit, simple := p.literal()
	if !simple {
		return p.unescaped(lit)
	}
	return string(lit[1 : len(lit)-1])
}

// shared reads a string that other records are likely to have too.
func (p *parser) shared() string {
	lit, simple := p.literal()
	if !simple {
		return p.unescaped(lit)
	}
	b := lit[1 : len(lit)-1]
	s, ok := p.texts[string(b)]
	if !ok {
		s = string(b)
		p.texts[s] = s
	}
	return s
}

// unescaped is the string of a literal that is not simple.
func (p *parser) unescaped(lit []byte) (s string) {
	if p.gave || json.Unmarshal(lit, &s) != nil {
		p.giveUp()
		return ""
	}
	return s
}

// number reads an integer of at most 18 digits.
func (p *parser) number() (n int64) {
	negative := p.peek('-')
	if negative {
		p.at++
	}
	from := p.at
	for ; p.at < len(p.data) && '0' <= p.data[p.at] && p.data[p.at] <= '9' && p.at-from <= 18; p.at++ {
		n = 10*n + int64(p.data[p.at]-'0')
	}
	digits := p.at - from
	if digits == 0 || digits > 18 || digits > 1 && p.data[from] == '0' {
		p.giveUp()
	}
	if negative {
		n = -n
	}
	return n
}

// bool reads a true, which is the only one that is written.
func (p *parser) bool() bool {
	for _, c := range []byte("true") {
		p.take(c)
	}
	return !p.gave
}

// other reads any value into to, by encoding/json.
func (p *parser) other(to any) {
	from, depth := p.at, 0
	for p.at < len(p.data) {
		switch c := p.data[p.at]; {
		case c == '"':
			p.literal()
			continue
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == '}' || c == ']'):
			if json.Unmarshal(p.data[from:p.at], to) != nil {
				p.giveUp()
			}
			return
		}
		p.at++
	}
	p.giveUp()
}
