package xes

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// skipDepth is how deep elements that are none of ours may nest.
const skipDepth = 1000

// Read reads a log, plain or gzip as its content says, and hands each case to visit, in the order of the file. A case
// belongs to visit from then on. It ends at the end of the log, at the first error, or when visit gives one; ErrStop ends
// it without an error. What is wrong with the file is an *Error that says where; Log is what was read so far, never nil.
func Read(from io.Reader, limits Limits, visit func(*Case) error) (*Log, error) {
	r := &reader{limits: limits.withDefaults(), visit: visit, log: &Log{Globals: map[string]Attributes{}}, names: map[string]int{}}
	src, err := unpack(from)
	if err != nil {
		return r.log, err
	}
	r.src = &meter{from: src, most: r.limits.Bytes, total: r.limits.Bytes, token: r.limits.Token}
	r.xml = xml.NewDecoder(r.src)
	r.xml.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("the log declares the encoding %q; only UTF-8 is read: convert it first, for example with iconv", clip(charset))
	}
	if err := r.document(); err != nil && !errors.Is(err, ErrStop) {
		return r.log, err
	}
	return r.log, nil
}

// unpack looks at the first bytes: gzip is unpacked, a UTF-8 byte order mark passed over, UTF-16 refused.
func unpack(from io.Reader) (*bufio.Reader, error) {
	src := bufio.NewReaderSize(from, 64<<10)
	if head, _ := src.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, fmt.Errorf("unpack gzip: %w", err)
		}
		src = bufio.NewReaderSize(z, 64<<10)
	}
	head, err := src.Peek(3)
	switch {
	case bytes.Equal(head, []byte{0xef, 0xbb, 0xbf}):
		src.Discard(3) // what was peeked is there
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}), bytes.HasPrefix(head, []byte{0xff, 0xfe}):
		return nil, &Error{1, 1, errors.New("the log is UTF-16; only UTF-8 is read: convert it first, for example with iconv")}
	case len(head) == 0 && err == io.EOF:
		return nil, &Error{1, 1, errors.New("the file is empty")}
	}
	return src, nil
}

// meter is what the decoder reads from: it bounds the whole file, and each token before it is in memory.
type meter struct {
	from  *bufio.Reader
	most  int64 // bytes that may be read
	total int64 // those that may still be
	token int64 // bytes that one token may have
	used  int64 // bytes read since the last token
}

var (
	errTotal = errors.New("the log is larger than what is read")
	errToken = errors.New("one tag or text is longer than what is read")
)

// ReadByte keeps the decoder from buffering on its own.
func (m *meter) ReadByte() (byte, error) {
	m.total--
	m.used++
	if m.total < 0 {
		return 0, fmt.Errorf("%w: at most %d bytes", errTotal, m.most)
	}
	if m.used > m.token {
		return 0, fmt.Errorf("%w: at most %d bytes", errToken, m.token)
	}
	return m.from.ReadByte()
}

// Read makes it an io.Reader, one byte at a time; the decoder prefers ReadByte.
func (m *meter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := m.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

// reader walks the elements of one log.
type reader struct {
	limits Limits
	src    *meter
	xml    *xml.Decoder
	log    *Log
	visit  func(*Case) error
	names  map[string]int // case names given, with the last number used to tell a repeat apart
	space  string         // the namespace of the log element; elements of another are passed over
	count  int            // attributes of what is being read
}

func (r *reader) fail(format string, args ...any) error {
	line, column := r.xml.InputPos()
	return &Error{line, column, fmt.Errorf(format, args...)}
}

// next gives the next start or end of an element of ours; everything else is passed over.
func (r *reader) next() (xml.Token, error) {
	for {
		token, err := r.token()
		if err != nil {
			return nil, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Space == r.space {
				return t, nil
			}
			if err := r.skip(); err != nil {
				return nil, err
			}
		case xml.EndElement:
			return t, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, r.fail("text %q stands where only elements may", clip(string(bytes.TrimSpace(t))))
			}
		}
	}
}

func (r *reader) token() (xml.Token, error) {
	token, err := r.xml.Token()
	r.src.used = 0
	if err == nil {
		return token, nil
	}
	if err == io.EOF {
		return nil, err
	}
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		return nil, r.fail("malformed XML: %s", syntax.Msg)
	}
	return nil, r.fail("%w", err)
}

// skip passes over the rest of an element whose start was read.
func (r *reader) skip() error {
	for depth := 1; depth > 0; {
		token, err := r.token()
		if err != nil {
			return err
		}
		switch token.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
		if depth > skipDepth {
			return r.fail("elements nest deeper than %d", skipDepth)
		}
	}
	return nil
}

func (r *reader) document() error {
	for {
		token, err := r.token()
		if err == io.EOF {
			return r.fail("there is no <log> element: is this an XES file?")
		}
		if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if start.Name.Local != "log" {
			return r.fail("the first element is <%s>, not <log>: is this an XES file?", clip(start.Name.Local))
		}
		r.space = start.Name.Space
		r.log.Version = attr(start, "xes.version")
		if err := r.children(&r.log.Attributes, r.logChild); err != nil {
			return err
		}
		return r.tail()
	}
}

// tail reads on after the log element: nothing but space and comments may follow, and a gzip file's checksum is checked.
func (r *reader) tail() error {
	token, err := r.next()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	return r.fail("%T stands after the end of the log", token)
}

func (r *reader) logChild(start xml.StartElement) error {
	switch start.Name.Local {
	case "trace":
		return r.trace()
	case "event":
		r.log.Stray++
		return r.skip()
	case "extension":
		r.log.Extensions = append(r.log.Extensions, Extension{attr(start, "name"), attr(start, "prefix"), attr(start, "uri")})
		return r.skip()
	case "classifier":
		r.log.Classifiers = append(r.log.Classifiers, Classifier{attr(start, "name"), attr(start, "scope"), attr(start, "keys")})
		return r.skip()
	case "global":
		var as Attributes
		err := r.children(&as, r.noChild)
		scope := attr(start, "scope")
		if scope == "" {
			scope = "event"
		}
		r.log.Globals[scope] = append(r.log.Globals[scope], as...)
		return err
	}
	return r.noChild(start)
}

func (r *reader) noChild(start xml.StartElement) error {
	return r.fail("<%s> is no element that XES knows here", clip(start.Name.Local))
}

func (r *reader) trace() error {
	c := &Case{}
	err := r.children(&c.Attributes, func(start xml.StartElement) error {
		if start.Name.Local != "event" {
			return r.noChild(start)
		}
		return r.event(c)
	})
	if err != nil {
		return err
	}
	r.log.Cases++
	r.log.Events += len(c.Events)
	c.Name = r.unique(c.Attributes.text("concept:name"))
	return r.visit(c)
}

func (r *reader) event(c *Case) error {
	if len(c.Events) == r.limits.CaseEvents {
		return r.fail("the case has more than %d events", r.limits.CaseEvents)
	}
	if r.log.Events+len(c.Events) == r.limits.Events {
		return r.fail("the log has more than %d events", r.limits.Events)
	}
	var e Event
	if err := r.children(&e.Attributes, r.noChild); err != nil {
		return err
	}
	e.Name = e.Attributes.text("concept:name")
	at, _ := e.Attributes.Get("time:timestamp")
	e.Time, _ = at.(time.Time)
	c.Events = append(c.Events, e)
	return nil
}

// unique tells cases of the same name apart.
func (r *reader) unique(name string) string {
	if name == "" {
		name = "case-" + strconv.Itoa(r.log.Cases)
	}
	n := r.names[name]
	given := name
	for n > 0 {
		n++
		given = name + "#" + strconv.Itoa(n)
		if r.names[given] == 0 {
			break
		}
	}
	r.names[name] = max(n, 1)
	r.names[given] = max(r.names[given], 1)
	return given
}

// children reads what stands within an element: attributes into as, anything else is given to other.
func (r *reader) children(as *Attributes, other func(xml.StartElement) error) error {
	outer := r.count
	r.count = 0
	defer func() { r.count = outer }()
	for {
		token, err := r.next()
		if err != nil {
			return r.cut(err)
		}
		start, ok := token.(xml.StartElement)
		if !ok {
			return r.keysOnce(*as)
		}
		if _, known := kinds[start.Name.Local]; !known {
			err = other(start)
		} else {
			err = r.attribute(start, 1, (*[]Attribute)(as))
		}
		if err != nil {
			return err
		}
	}
}

// cut makes a file that ends too early an error.
func (r *reader) cut(err error) error {
	if err == io.EOF {
		return r.fail("the file ends in the middle of the log")
	}
	return err
}

// keysOnce looks for a key that stands twice; a few keys are compared without a map.
func (r *reader) keysOnce(as []Attribute) error {
	const few = 32
	var seen map[string]bool
	if len(as) > few {
		seen = make(map[string]bool, len(as))
	}
	for i, a := range as {
		twice := seen[a.Key]
		for _, b := range as[:min(i, few)] {
			twice = twice || seen == nil && a.Key == b.Key
		}
		if twice {
			return r.fail("the attribute %q stands twice in one element", clip(a.Key))
		}
		if seen != nil {
			seen[a.Key] = true
		}
	}
	return nil
}

func (r *reader) attribute(start xml.StartElement, depth int, into *[]Attribute) error {
	kind := start.Name.Local
	if r.count++; r.count > r.limits.Attributes {
		return r.fail("one element has more than %d attributes", r.limits.Attributes)
	}
	if depth > r.limits.Depth {
		return r.fail("attributes nest deeper than %d", r.limits.Depth)
	}
	a := Attribute{Key: attr(start, "key")}
	if a.Key == "" {
		return r.fail("a <%s> has no key", kind)
	}
	if err := r.value(&a, kind, start); err != nil {
		return err
	}
	var inside []Attribute
	if err := r.nested(kind, depth, &inside); err != nil {
		return err
	}
	switch kind {
	case "list":
		a.Value = List(inside)
	case "container":
		a.Value = Attributes(inside)
	default:
		a.Nested = inside
	}
	*into = append(*into, a)
	return nil
}

// value reads the value of an attribute that has one of its own.
func (r *reader) value(a *Attribute, kind string, start xml.StartElement) (err error) {
	parse := kinds[kind]
	if parse == nil {
		return nil
	}
	text, ok := lookup(start, "value")
	if !ok {
		return r.fail("the %s %q has no value", kind, clip(a.Key))
	}
	if a.Value, err = parse(text); err != nil {
		return r.fail("the %s %q: %s", kind, clip(a.Key), plain(err, text))
	}
	return nil
}

// nested reads the attributes within an attribute. Those of a list may stand in a <values> element.
func (r *reader) nested(kind string, depth int, inside *[]Attribute) error {
	within := 0
	for {
		token, err := r.next()
		if err != nil {
			return r.cut(err)
		}
		start, ok := token.(xml.StartElement)
		switch {
		case !ok && within > 0:
			within--
			continue
		case !ok && kind == "list":
			return nil
		case !ok:
			return r.keysOnce(*inside)
		case start.Name.Local == "values" && kind == "list" && within == 0:
			within++
			continue
		}
		if _, known := kinds[start.Name.Local]; !known {
			return r.noChild(start)
		}
		if err := r.attribute(start, depth+1, inside); err != nil {
			return err
		}
	}
}

// plain says what is wrong with a number without the name of the function that noticed.
func plain(err error, text string) string {
	var number *strconv.NumError
	if errors.As(err, &number) {
		return fmt.Sprintf("%q: %v", clip(strings.TrimSpace(text)), number.Err)
	}
	return err.Error()
}

// attr gives an XML attribute of a tag, by its local name.
func attr(start xml.StartElement, name string) string {
	value, _ := lookup(start, name)
	return value
}

func lookup(start xml.StartElement, name string) (string, bool) {
	for _, a := range start.Attr {
		if a.Name.Local == name && a.Name.Space == "" {
			return a.Value, true
		}
	}
	return "", false
}
