package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agentchains/vault-plugin-secrets-agentchains/cmd/agentchains/supervise"
	"github.com/agentchains/vault-plugin-secrets-agentchains/redact"
)

// exitFound is the exit code when something was found that must not be there.
const exitFound = exitCode(3)

// A redactOptions says what to redact, in which texts, and how to tell.
type redactOptions struct {
	values                  valueSources
	known, format           string
	inPlace, check, strict  bool
	force, asJSON, findFail bool
}

func newRedact(mount *string) *cobra.Command {
	var o redactOptions
	cmd := &cobra.Command{
		Use:   "redact [FILE|FOLDER...]",
		Short: "Redact secrets in standard input, or in files",
		Long:  strings.TrimSpace(redactHelp),
		Example: `  make deploy 2>&1 | agentchains redact --env prod --chain deploy-pipeline --agent Deployer
  agentchains redact --in-place --values-fd 3 logs 3< values.json
  agentchains redact --check --fail-on-find transcripts`,
		RunE: func(cmd *cobra.Command, args []string) error { return o.do(cmd, *mount, args) },
	}
	o.values.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.known, "formats", "precise", "keys of known formats: precise redacts those that their form alone tells, all redacts all, off looks for none")
	flags.StringVar(&o.format, "format", auto, "text, json, jsonl, or auto: files by the ends of their names, and standard input as text")
	flags.BoolVar(&o.inPlace, "in-place", false, "rewrite the files, and those in the folders")
	flags.BoolVar(&o.check, "check", false, "write nothing, only say what would be redacted")
	flags.BoolVar(&o.strict, "strict", false, "hold back what may be the beginning of a secret for as long as no more input comes")
	flags.BoolVar(&o.force, "force", false, "redact also values that are short or common")
	flags.BoolVar(&o.findFail, "fail-on-find", false, "exit with 3 when something was found, redacted or not")
	flags.BoolVar(&o.asJSON, "json", false, "print the summary as JSON")
	cmd.MarkFlagsMutuallyExclusive("in-place", "check")
	return cmd
}

const redactHelp = `
Redact standard input or one FILE to standard output, or any files and all that
are in FOLDERs in their place. What is found is replaced by [REDACTED:NAME], in
every usual encoding; all else comes out unchanged, and as it comes in.

Redacted are the values that an agent's environment holds now (--env, --chain
and --agent, through Vault), that another program gives on a file descriptor
(--values-fd: a JSON object of strings, or lines NAME=value; 1 MiB), and that
variables of this environment hold (--variables, for use within agentchains
run); with or without them, keys of known formats. No value is ever an argument.

JSON stays JSON: a .json file is redacted as documents, a .jsonl or .ndjson file
line by line, and what is not JSON, or longer than 16 MiB, as text. --in-place
replaces a file only when something in it is redacted, in one step, with the
same permissions and owner. It follows no symbolic links and leaves .git alone.

What was found is told on standard error at the end, without values. A filter
that found nothing, and looked for every value, says nothing.

Exit codes: 0 done; 2 not or not everywhere done; 3 with --fail-on-find when
something was found, redacted or only reported; 128 and the number of the signal
that ended it.
`

// do redacts, and says what was found.
func (o *redactOptions) do(cmd *cobra.Command, mount string, paths []string) error {
	switch {
	case !o.inPlace && !o.check && len(paths) > 1:
		return errors.New("redact prints one FILE: use --in-place or --check for more")
	case o.inPlace && len(paths) == 0:
		return errors.New("--in-place needs a FILE or a FOLDER")
	case o.format != auto && o.format != asText && o.format != asDocuments && o.format != asLines:
		return errors.New("--format must be auto, text, json or jsonl")
	case o.known != "precise" && o.known != "all" && o.known != "off":
		return errors.New("--formats must be precise, all or off")
	}
	secrets, err := o.values.read(cmd, mount, len(paths) == 0)
	if err != nil {
		return err
	}
	for i := range secrets {
		secrets[i].Force = o.force
	}
	set := redact.NewSet(secrets...)
	switch o.known {
	case "precise":
		set.FindFormats(redact.Precise)
	case "all":
		set.FindFormats(redact.All)
	}
	r := &redactor{set: set, format: o.format, check: o.check, summary: newSummary(set, o.check)}
	var stopped interrupted
	if err := o.redact(cmd, r, paths); err != nil && !errors.As(err, &stopped) {
		return errors.New(r.summary.clean(err.Error()))
	}
	if err := r.summary.print(cmd.ErrOrStderr(), o.asJSON, r.signals == nil); err != nil {
		return err
	}
	switch {
	case stopped.Signal != nil:
		return exitCode(128 + int(stopped.Signal.(syscall.Signal)))
	case len(r.summary.Errors) > 0:
		return exitCode(exitFailed)
	case o.findFail && len(r.summary.Found) > 0:
		return exitFound
	}
	return nil
}

func (o *redactOptions) redact(cmd *cobra.Command, r *redactor, paths []string) error {
	out := cmd.OutOrStdout()
	if o.check {
		out = io.Discard
	}
	if len(paths) == 0 {
		r.live = !o.strict
		return r.stream(out, cmd.InOrStdin(), "-")
	}
	if o.inPlace || o.check {
		if file, ok := cmd.ErrOrStderr().(*os.File); ok && supervise.IsTerminal(file) {
			r.progress = newProgress(file)
		}
		r.signals = make(chan os.Signal, 1)
		for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM} {
			if !signal.Ignored(sig) {
				signal.Notify(r.signals, sig)
			}
		}
		defer signal.Stop(r.signals)
		defer r.progress.erase()
		return r.files(paths)
	}
	file, err := os.Open(paths[0])
	if err != nil {
		return err
	}
	defer file.Close()
	return r.stream(out, file, paths[0])
}

// stream redacts one text, and notes what was in it.
func (r *redactor) stream(to io.Writer, from io.Reader, name string) error {
	f, err := r.copy(to, from, name)
	r.summary.add(name, f)
	if err != nil {
		return fmt.Errorf("redact %s: %w", name, err)
	}
	return nil
}
