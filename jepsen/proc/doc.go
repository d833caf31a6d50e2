//go:build linux

// Package proc is the world of real processes: nodes of `sluice server`, each in a network namespace and on a loop-mounted
// ext4 of its own, and workers that are processes, too. Where the machine or the user cannot do that, nodes listen on
// 127.0.0.1 and keep their data in plain folders, and Has says of each kind of fault why it is not to be had.
// Everything that is made on the machine carries the process id of its maker in its name and is removed by Close;
// what a maker that was killed has left behind is removed by the next New.
package proc
