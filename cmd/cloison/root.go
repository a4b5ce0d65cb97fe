package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"cloison/format/hint"
)

// run is the whole program. It returns the exit code: 0, or 1 after an error
// that has been told on stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	fmt.Fprintf(stderr, "cloison: %v\n", err)
	if advice := hint.Of(err); advice != "" {
		fmt.Fprintf(stderr, "hint: %s\n", advice)
	}
	return 1
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cloison",
		Short: "Build, sign, run and verify hardened, image-based systems",
		Long: `cloison builds a Cloison system from a source tree, signs it with your keys,
runs it in a virtual machine with Secure Boot and a TPM, and verifies it.`,
		Example: `  cloison build
  cloison run
  cloison verify out/gateway-qemu`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.AddCommand(
		newBuildCommand(),
		newFlowsCommand(),
		newKeysCommand(),
		newLogCommand(),
		newManCommand(),
		newRecoverCommand(),
		newRunCommand(),
		newVerifyCommand(),
	)
	return root
}
