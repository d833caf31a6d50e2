//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"runtime/pprof"

	"golang.org/x/sync/errgroup"

	"sluice/bench/load"
	"sluice/bench/process"
)

// profile takes CPU profiles of all nodes, and of senders and workers, from the end of the warm-up on, for as long as the
// measurement lasts, into PREFIX-NODE.pprof and PREFIX.load. The returned function waits for them.
func profile(ctx context.Context, nodes *process.Cluster, prefix string, plan load.Plan) (wait func() error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return profileLoad(ctx, prefix+".load", plan) })
	for _, node := range nodes.All {
		group.Go(func() error {
			if err := load.Pause(ctx, plan.Warm); err != nil {
				return err
			}
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%.0f", node.Address, math.Ceil(plan.Length.Seconds()))
			return download(ctx, url, prefix+"-"+node.Name+".pprof")
		})
	}
	return group.Wait
}

// profileLoad takes a CPU profile of this process.
func profileLoad(ctx context.Context, name string, plan load.Plan) (err error) {
	if err := load.Pause(ctx, plan.Warm); err != nil {
		return err
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return load.Pause(ctx, plan.Length)
}

// download saves a page.
func download(ctx context.Context, url, name string) error {
	data, err := page(ctx, url)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o666)
}

// page reads a page.
func page(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return io.ReadAll(answer.Body)
}
