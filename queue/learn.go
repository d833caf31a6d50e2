package queue

import "errors"

// Bucket is a memory bucket of an application.
type Bucket struct {
	Application uint64 // uid
	Name        int64  // the end of its span of time, Unix ms, and how many buckets of that span came before it
}

func (b Bucket) prefix() string { return string(bucketPrefix(b.Application, b.Name)) }

// Lesson is what a store was found to remember: filters, the one of the last buckets first, and what each of them is of.
type Lesson struct {
	filters []*filter
	buckets map[*filter][]string // prefixes of keys
}

// IDs is how many ids were found.
func (l *Lesson) IDs() (ids int) {
	for _, f := range l.filters {
		ids += f.all
	}
	return ids
}

// ErrStopped is the error of Learn when it was told to stop.
var ErrStopped = errors.New("queue: stopped")

// learnStep is after how many keys Learn looks whether it is to stop.
const learnStep = 1024

// Learn reads which ids lie in memory buckets, from the first bucket on, as long as there is room for so many ids; 0: for
// 67,108,864. Of the rest nothing is learned. It ends with ErrStopped once stop says so. Whoever writes to the store meanwhile
// must have told a Recent to Expect these buckets before, and write through it.
func Learn(r Reader, buckets []Bucket, most int, stop func() bool) (*Lesson, error) {
	if most <= 0 {
		most = recentIDs
	}
	l := &Lesson{buckets: map[*filter][]string{}}
	f := &filter{}
	for _, b := range buckets {
		whole, err := f.learn(r, []byte(b.prefix()), most, stop)
		switch {
		case err != nil:
			return nil, err
		case !whole:
			return l, nil
		}
		if l.buckets[f] == nil {
			l.filters = append([]*filter{f}, l.filters...)
		}
		l.buckets[f] = append(l.buckets[f], b.prefix())
		if f.all >= filterIDs {
			most -= f.whole
			f = &filter{}
		}
	}
	return l, nil
}

// learn adds the ids of one bucket, and tells whether there was room for all of them. What lies by sequence numbers, behind what
// lies by the ids of an instance, is passed over.
func (f *filter) learn(r Reader, prefix []byte, most int, stop func() bool) (whole bool, err error) {
	it, err := r.NewIter(prefix, Successor(prefix))
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok, n := it.First(), 0; ok; n++ {
		if n%learnStep == 0 && stop() {
			return false, ErrStopped
		}
		key := it.Key()
		if len(key) > filteredAt && key[filteredAt] == memoryBySeq {
			ok = it.SeekGE(Successor(key[:filteredAt+1]))
			continue
		}
		if f.add(key[bucketBytes:]); f.whole > most {
			return false, nil
		}
		ok = it.Next()
	}
	return true, it.Error()
}
