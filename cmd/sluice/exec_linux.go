package main

import "syscall"

// dieWithParent ends a command together with the worker that runs it, also if that is killed -9: its instance goes to
// another worker then, and two handlers would be at it. What the command itself has started is its own to end.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
