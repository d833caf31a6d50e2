//go:build !mutant

package sim

// tellBrand says nothing of Sluice as it is.
func tellBrand() {}
