// Package laws holds the rules of this repository that a compiler does not know, as tests run by plain go test:
// which package may import which, what the deciding core may not touch, how long functions and files may be, that
// everything exported is documented, that no test sleeps.
//
// A law is a function from a tree of sources to the places that break it. Each has one test that holds it against
// this repository, and one that shows it failing on a small tree that breaks it.
package laws
