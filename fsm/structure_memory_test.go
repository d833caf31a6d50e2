package fsm_test

import (
	"slices"

	logv1 "sluice/api/log/v1"
)

// readFilling wants the bucket that is written to to be one of its application's, if that has any.
func (a *audit) readFilling(r record) {
	rec := &logv1.FillingRecord{}
	a.decode(r, rec)
	for _, app := range a.apps {
		if app.Uid != be(r.key[1:]) {
			continue
		}
		name := rec.SpanMs + int64(rec.Ordinal)
		if rec.Records == 0 || len(app.Memory) > 0 && slices.Max(app.Memory) >= name && app.Memory[len(app.Memory)-1] != name {
			a.say("%s: writes to %v of memory buckets %v", app.Spec.Name, rec, app.Memory)
		}
		return
	}
	a.say("key %q is of no application", r.key)
}

// checkMemory wants what is remembered to lie in buckets that are known and will be forgotten.
func (a *audit) checkMemory(app *logv1.ApplicationRecord) {
	if len(slices.Compact(slices.Sorted(slices.Values(app.Memory)))) != len(app.Memory) {
		a.say("%s: memory buckets %v", app.Spec.Name, app.Memory)
	}
	for b := range a.buckets {
		if be([]byte(b)) == app.Uid && !slices.Contains(app.Memory, int64(be([]byte(b[8:])))) {
			a.say("%s: remembers something in a bucket that it does not know, %d", app.Spec.Name, be([]byte(b[8:])))
		}
	}
	for _, end := range app.Memory {
		found := false
		for k := range a.dues {
			found = found || k[9] == 6 && be([]byte(k[10:18])) == app.Uid && int64(be([]byte(k[18:]))) == end
		}
		if !found {
			a.say("%s: nothing will forget the bucket that ends at %d", app.Spec.Name, end)
		}
	}
}
