// Package mutant is Sluice broken on purpose, in one place at a time, so that the checkers of jepsen are checked
// themselves: each mutant must be caught, and by the invariant that it breaks. Nothing of it is in the product: a mutant
// is a few lines of a source file and what takes their place, laid over the sources for one build.
package mutant
