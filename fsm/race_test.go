//go:build race

package fsm_test

// underRace: the explorations go as deep as in short runs. One goroutine explores, so that the detector finds nothing the
// deeper, and it makes each step ten times as slow.
const underRace = true
