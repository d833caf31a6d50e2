package xes

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const small = `<?xml version="1.0" encoding="UTF-8"?>
<!-- made by hand -->
<log xes.version="1849-2016" xes.features="nested-attributes" xmlns="http://www.xes-standard.org/" xmlns:x="urn:other">
  <extension name="Concept" prefix="concept" uri="http://www.xes-standard.org/concept.xesext"/>
  <global scope="event"><string key="concept:name" value="UNKNOWN"/></global>
  <global scope="trace"><string key="concept:name" value="UNKNOWN"/></global>
  <classifier name="Activity" keys="concept:name"/>
  <x:extra deep="yes"><x:more/></x:extra>
  <string key="origin" value="hand"/>
  <trace>
    <string key="concept:name" value="a"/>
    <event>
      <string key="concept:name" value="open &quot;it&quot; &amp; go"/>
      <date key="time:timestamp" value="2026-01-02T03:04:05.678+01:00"/>
      <int key="count" value="-9007199254740993"/>
      <float key="cost" value="1.5E3"/>
      <float key="none" value="NaN"/>
      <boolean key="urgent" value="true"/>
      <id key="who" value="9f0c"/>
      <list key="steps"><values><string key="s" value="1"/><string key="s" value="2"/></values></list>
      <list key="bare"><int key="i" value="1"/></list>
      <container key="box"><string key="in" value="side"/><container key="box"/></container>
      <string key="grade" value="A"><int key="points" value="7"/></string>
      <string key="ümläut" value="naïve"/>
    </event>
    <event><date key="time:timestamp" value="2026-01-02T03:04:05"/></event>
  </trace>
  <event><string key="concept:name" value="stray"/></event>
  <trace><string key="concept:name" value="a"/></trace>
  <trace><string key="concept:name" value="a#2"/></trace>
  <trace><string key="concept:name" value="a"/></trace>
  <trace/>
</log>`

// readAll gathers every case.
func readAll(text string, limits Limits) (*Log, []*Case, error) {
	var cases []*Case
	log, err := Read(strings.NewReader(text), limits, func(c *Case) error {
		cases = append(cases, c)
		return nil
	})
	return log, cases, err
}

func TestEveryKindOfAttribute(t *testing.T) {
	t.Parallel()
	log, cases, err := readAll(small, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if log.Cases != 5 || log.Events != 2 || log.Stray != 1 || log.Version != "1849-2016" {
		t.Errorf("the log is %+v", log)
	}
	if len(log.Globals["event"]) != 1 || len(log.Globals["trace"]) != 1 || len(log.Extensions) != 1 || len(log.Classifiers) != 1 || log.Attributes.text("origin") != "hand" {
		t.Errorf("the log's head is %+v", log)
	}
	e := cases[0].Events[0]
	want := `{"concept:name":"open \"it\" \u0026 go","time:timestamp":"2026-01-02T03:04:05.678+01:00","count":-9007199254740993,"cost":1500,"none":"NaN","urgent":true,"who":"9f0c",` +
		`"steps":[{"s":"1"},{"s":"2"}],"bare":[{"i":1}],"box":{"in":"side","box":{}},"grade":{"value":"A","attributes":{"points":7}},"ümläut":"naïve"}`
	if got := string(e.Attributes.AppendJSON(nil)); got != want {
		t.Errorf("attributes\n got %s\nwant %s", got, want)
	}
	if !json.Valid(e.Attributes.AppendJSON(nil)) {
		t.Error("the attributes are no valid JSON")
	}
	if e.Name != `open "it" & go` || !e.Time.Equal(time.Date(2026, 1, 2, 2, 4, 5, 678e6, time.UTC)) {
		t.Errorf("the event is %q at %v", e.Name, e.Time)
	}
	if second := cases[0].Events[1]; second.Name != "" || !second.Time.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("the second event is %q at %v", second.Name, second.Time)
	}
}

func TestNamesAreUnique(t *testing.T) {
	t.Parallel()
	_, cases, err := readAll(small, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range cases {
		names = append(names, c.Name)
	}
	if got, want := strings.Join(names, " "), "a a#2 a#2#2 a#3 case-5"; got != want {
		t.Errorf("names %q, want %q", got, want)
	}
}

func TestGzipIsKnownByItsContent(t *testing.T) {
	t.Parallel()
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte(small))
	z.Close()
	whole := packed.Bytes()
	count := 0
	if _, err := Read(bytes.NewReader(whole), Limits{}, func(*Case) error { count++; return nil }); err != nil || count != 5 {
		t.Errorf("read %d cases, %v", count, err)
	}
	_, err := Read(bytes.NewReader(whole[:len(whole)/2]), Limits{}, func(*Case) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("a cut gzip file: %v", err)
	}
	whole[len(whole)-6] ^= 1
	if _, err := Read(bytes.NewReader(whole), Limits{}, func(*Case) error { return nil }); !errors.Is(err, gzip.ErrChecksum) {
		t.Errorf("a gzip file with a wrong checksum: %v", err)
	}
}

func TestStopEndsWithoutAnError(t *testing.T) {
	t.Parallel()
	log, err := Read(strings.NewReader(small), Limits{}, func(*Case) error { return ErrStop })
	if err != nil || log.Cases != 1 {
		t.Errorf("stopped after %d cases with %v", log.Cases, err)
	}
	trouble := errors.New("trouble")
	if _, err := Read(strings.NewReader(small), Limits{}, func(*Case) error { return trouble }); !errors.Is(err, trouble) {
		t.Errorf("the visitor's error came back as %v", err)
	}
}

func TestWhatIsWrongIsSaidWithItsPlace(t *testing.T) {
	t.Parallel()
	event := func(attributes string) string {
		return "<log>\n<trace>\n<event>" + attributes + "</event></trace></log>"
	}
	for name, row := range map[string]struct {
		text   string
		limits Limits
		want   string
	}{
		"empty":              {"", Limits{}, "line 1, column 1: the file is empty"},
		"text":               {"hello", Limits{}, "no <log> element"},
		"another root":       {"<html></html>", Limits{}, "the first element is <html>, not <log>"},
		"cut":                {"<log>\n<trace>", Limits{}, "line 2, column 8: malformed XML: unexpected EOF"},
		"crossed tags":       {"<log>\n<trace></log>", Limits{}, "line 2, column 14: malformed XML"},
		"no value":           {event(`<string key="k"/>`), Limits{}, `line 3, column 25: the string "k" has no value`},
		"no key":             {event(`<string value="k"/>`), Limits{}, "has no key"},
		"bad int":            {event(`<int key="n" value="1.5"/>`), Limits{}, `the int "n": "1.5": invalid syntax`},
		"bad float":          {event(`<float key="n" value="much"/>`), Limits{}, `the float "n": "much": invalid syntax`},
		"bad boolean":        {event(`<boolean key="n" value="maybe"/>`), Limits{}, `"maybe" is neither true nor false`},
		"bad date":           {event(`<date key="n" value="yesterday"/>`), Limits{}, `"yesterday" is no date`},
		"key twice":          {event(`<int key="n" value="1"/><int key="n" value="2"/>`), Limits{}, `the attribute "n" stands twice`},
		"unknown element":    {event(`<text key="n" value="1"/>`), Limits{}, "<text> is no element that XES knows here"},
		"nested event":       {event(`<event/>`), Limits{}, "<event> is no element"},
		"text in event":      {event(`words`), Limits{}, `text "words" stands where only elements may`},
		"latin-1":            {`<?xml version="1.0" encoding="ISO-8859-1"?><log/>`, Limits{}, `the encoding "ISO-8859-1"; only UTF-8`},
		"utf-16":             {"\xff\xfe<\x00", Limits{}, "UTF-16"},
		"invalid utf-8":      {event("<string key=\"k\" value=\"\xff\"/>"), Limits{}, "invalid UTF-8"},
		"entity":             {`<!DOCTYPE log [<!ENTITY a "aaaa">]>` + event(`<string key="k" value="&a;"/>`), Limits{}, "malformed XML"},
		"after the end":      {"<log/><log/>", Limits{}, "stands after the end"},
		"deep":               {event(strings.Repeat(`<container key="k">`, 33) + strings.Repeat(`</container>`, 33)), Limits{}, "nest deeper than 32"},
		"deep foreign":       {"<log>" + strings.Repeat(`<x xmlns="u">`, 1001), Limits{}, "nest deeper than 1000"},
		"long token":         {event(`<string key="k" value="` + strings.Repeat("x", 100) + `"/>`), Limits{Token: 64}, "one tag or text is longer"},
		"long file":          {event(`<string key="k" value="x"/>`), Limits{Bytes: 32}, "larger than what is read: at most 32 bytes"},
		"many attributes":    {event(`<int key="a" value="1"/><int key="b" value="1"/>`), Limits{Attributes: 1}, "more than 1 attributes"},
		"many events":        {"<log><trace><event/></trace><trace><event/></trace></log>", Limits{Events: 1}, "the log has more than 1 events"},
		"many events a case": {"<log><trace><event/><event/></trace></log>", Limits{CaseEvents: 1}, "the case has more than 1 events"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := readAll(row.text, row.limits)
			var at *Error
			if !errors.As(err, &at) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestManyKeysAreComparedOnce(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 40 {
		fmt.Fprintf(&b, `<int key="k%d" value="1"/>`, i)
	}
	if _, _, err := readAll("<log>"+b.String()+"</log>", Limits{}); err != nil {
		t.Error(err)
	}
	if _, _, err := readAll("<log>"+b.String()+`<int key="k39" value="2"/></log>`, Limits{}); err == nil {
		t.Error("a key that stands twice among many was taken")
	}
}

func TestRealLogs(t *testing.T) {
	t.Parallel()
	data := filepath.Join("..", "..", "..", "shared", "data")
	for file, want := range map[string]struct{ cases, events int }{
		"bpic2013_incidents.xes.gz": {7554, 65533},
		"helpdesk.xes.gz":           {4580, 21348},
		"receipt.xes.gz":            {1434, 8577},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			f, err := os.Open(filepath.Join(data, file))
			if err != nil {
				t.Skipf("SKIPPED: the real log is not on this machine: %v", err)
			}
			defer f.Close()
			names := map[string]bool{}
			log, err := Read(f, Limits{}, func(c *Case) error {
				names[c.Name] = true
				for _, e := range c.Events {
					if e.Name == "" || e.Time.IsZero() || !json.Valid(e.Attributes.AppendJSON(nil)) {
						t.Errorf("case %s has the event %+v", c.Name, e)
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if log.Cases != want.cases || log.Events != want.events || len(names) != want.cases {
				t.Errorf("%d cases (%d names), %d events; want %d and %d", log.Cases, len(names), log.Events, want.cases, want.events)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte(`<log><trace><event><date key="d" value="2026-01-01"/></event></trace></log>`))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Fuzz(func(t *testing.T, text []byte) {
		names := map[string]bool{}
		log, err := Read(bytes.NewReader(text), Limits{Bytes: 1 << 20, Token: 1 << 16}, func(c *Case) error {
			if names[c.Name] || c.Name == "" {
				t.Errorf("the name %q was given twice or is empty", c.Name)
			}
			names[c.Name] = true
			for _, e := range append(c.Events, Event{Attributes: c.Attributes}) {
				if data := e.Attributes.AppendJSON(nil); !json.Valid(data) {
					t.Errorf("no valid JSON: %s", data)
				}
			}
			return nil
		})
		if log == nil {
			t.Error("no log was given back")
		}
		if err == nil && len(names) != log.Cases {
			t.Errorf("%d cases were handed out of %d", len(names), log.Cases)
		}
	})
}
