package main

import (
	"context"
	"os"

	"cloison/host/progress"
	"cloison/host/sdk"
	"cloison/host/tree"
)

// peer returns what runs a program in the SDK, made first if it is missing, with
// dir writable and this program itself to be had.
func peer(ctx context.Context, self, dir string) (func(ctx context.Context, args []string) ([]byte, error), error) {
	root, err := tree.Find(".")
	if err != nil {
		return nil, err
	}
	cache, err := tree.Cache()
	if err != nil {
		return nil, err
	}
	tools, err := sdk.Open(ctx, sdk.Options{Tree: root, Cache: cache, Log: progress.To(os.Stderr)})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, args []string) ([]byte, error) {
		return tools.Output(ctx, sdk.Step{Args: args, ReadOnly: []string{self}, Writable: []string{dir}})
	}, nil
}
