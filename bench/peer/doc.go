// Package peer makes clusters of Sluice and of the systems that it is compared with, and does the same job with each as
// an expert in it would.
package peer
