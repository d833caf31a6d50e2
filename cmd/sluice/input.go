package main

import (
	"fmt"
	"io"
	"os"
)

// open opens a file to be read, or standard input, which - stands for.
func (sh *shell) open(file string) (src io.Reader, end func(), err error) {
	if file == "-" {
		return sh.in, func() {}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { _ = f.Close() }, nil
}

// readWhole reads a file, or standard input, of at most so many bytes.
func (sh *shell) readWhole(file string, most int) ([]byte, error) {
	src, end, err := sh.open(file)
	if err != nil {
		return nil, err
	}
	defer end()
	all, err := io.ReadAll(io.LimitReader(src, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(all) > most {
		return nil, fmt.Errorf("%s is longer than %s, the most that is read", inputName(file), size(uint64(most)))
	}
	return all, nil
}

// inputName is a file as errors name it.
func inputName(file string) string {
	if file == "-" {
		return "standard input"
	}
	return file
}
