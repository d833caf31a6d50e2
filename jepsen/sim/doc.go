// Package sim is a cluster in virtual time: whole nodes, workers and clients as they are shipped, in one testing/synctest
// bubble, over a network and disks in memory whose delays, losses and failures a seed decides. Minutes of a cluster's life
// take seconds, and what a seed shows can be looked at again.
package sim
