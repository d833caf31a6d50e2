//go:build !linux

package main

import "syscall"

// dieWithParent is something that only Linux knows: elsewhere a command outlives a worker that is killed -9.
func dieWithParent(*syscall.SysProcAttr) {}
