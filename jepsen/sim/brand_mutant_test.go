//go:build mutant

package sim

import "fmt"

// mutant names what is broken in this build; jepsen/mutant sets it.
var mutant = "without a name"

// tellBrand says that this build is broken on purpose, and how.
func tellBrand() { fmt.Println("MUTANT", mutant) }
