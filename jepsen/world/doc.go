// Package world is what a scenario sees of the place it runs in: nodes, network, disks, clocks and workers that can be
// hurt, a time, clients, and a history. There are two places: jepsen/sim, in virtual time, and jepsen/proc, of real
// processes. What a scenario, a workload or a nemesis does goes through this package and sluice/client alone, so that
// it runs in both.
package world
