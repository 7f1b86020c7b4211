package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/vault/api"
	"github.com/spf13/cobra"

	"github.com/agentchains/vault-plugin-secrets-agentchains/cmd/agentchains/supervise"
	"github.com/agentchains/vault-plugin-secrets-agentchains/internal/scope"
)

// exitLeft is the exit code when something of the source was not imported.
const exitLeft = exitCode(3)

// importOptions say what to import, to where, and under which names.
type importOptions struct {
	login                          login
	kv, dotenv, doppler, infisical string
	to                             string
	renames                        []string
	upper, groups                  bool
	overwrite, yes, planOnly       bool
}

func newImport(mount *string) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import (--kv PATH | --dotenv FILE | --doppler FILE | --infisical FILE) --to ENVIRONMENT/SCOPE",
		Short: "Import secrets from a KV engine or from a file",
		Long:  strings.TrimSpace(importHelp),
		Example: `  agentchains import --kv secret/billing/ --to prod/chain/billing --upper
  agentchains import --kv secret/aws-deploy --groups --to prod/project/platform --yes
  doppler secrets download --no-file --format json | agentchains import --doppler - --to dev/org --yes`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 { // it may be a value, so it is not repeated
				return errors.New("import takes flags only")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.do(cmd, strings.Trim(*mount, "/")) },
	}
	flags := cmd.Flags()
	flags.StringVar(&o.kv, "kv", "", "import the entry of a KV engine at this path, or, with / at its end, all entries below it")
	flags.StringVar(&o.dotenv, "dotenv", "", "import the variables of a .env file; -: of standard input")
	flags.StringVar(&o.doppler, "doppler", "", "import what doppler secrets download --format json wrote; -: standard input")
	flags.StringVar(&o.infisical, "infisical", "", "import what infisical export --format json wrote; -: standard input")
	flags.StringVar(&o.to, "to", "", "where to: an environment and a scope, such as prod/chain/billing")
	flags.BoolVar(&o.groups, "groups", false, "make a group of each KV entry, and not a secret of each of its keys")
	flags.StringArrayVar(&o.renames, "rename", nil, "OLD=NEW: the name that something of the source gets; can be repeated")
	flags.BoolVar(&o.upper, "upper", false, "turn names of variables into upper case, and - and . in them into _")
	flags.BoolVar(&o.overwrite, "overwrite", false, "replace what has another value")
	flags.BoolVar(&o.yes, "yes", false, "write without asking")
	flags.BoolVar(&o.planOnly, "plan", false, "write nothing, only show what would be written")
	o.login.add(cmd)
	cmd.MarkFlagsOneRequired("kv", "dotenv", "doppler", "infisical")
	cmd.MarkFlagsMutuallyExclusive("kv", "dotenv", "doppler", "infisical")
	cmd.MarkFlagsMutuallyExclusive("yes", "plan")
	if err := cmd.MarkFlagRequired("to"); err != nil {
		panic(err) // the flag was added above
	}
	return cmd
}

const importHelp = `
Import the entries of a KV engine (version 1 or 2) of the same Vault, a .env
file, or an export of Doppler or Infisical. The plan comes first: every name,
where it goes, and whether it is new, the same, another value (conflict), or
refused, and why; never a value. It is written after a yes on the terminal, or
with --yes, each entry on the condition that nobody has changed it meanwhile.

Nothing is overwritten without --overwrite. After an interruption run it again:
what is there already is the same. The token needs read on the source, read and
create on secrets/ (with --groups on groups/; with --overwrite update), and read
on reveal/ to tell the same value from another; without it all that is there is
left alone.

Exit codes: 0 done, or only planned; 2 there was an error; 3 done, but for what
is in conflict, exists or is refused.
`

// do plans, asks, and writes.
func (o *importOptions) do(cmd *cobra.Command, mount string) error {
	place, err := scope.ParsePlace(strings.Trim(o.to, "/"))
	if err != nil {
		return errors.New("--to must be an environment and a scope, org, project/<project>, chain/<chain> or agent/<chain>/<agent>, as in prod/chain/billing")
	}
	if o.groups && o.kv == "" {
		return errors.New("--groups needs --kv: a file has no groups")
	}
	names, err := newNaming(o.renames, o.upper)
	if err != nil {
		return err
	}
	client, _, err := o.login.loggedIn(cmd.Context())
	if err != nil {
		return err
	}
	var in importSource
	if err := o.read(cmd, client, &in); err != nil {
		return err
	}
	items, err := names.items(in.list, place, o.groups)
	if err != nil {
		return err
	}
	i := importer{client: client, mount: mount, overwrite: o.overwrite, items: items}
	stderr, ok := cmd.ErrOrStderr().(*os.File)
	watched := ok && supervise.IsTerminal(stderr)
	if watched {
		i.progress = newProgress(stderr)
	}
	if err := i.checkEnvironment(cmd.Context(), place.Environment); err != nil {
		return err
	}
	if err := i.look(cmd.Context()); err != nil {
		return err
	}
	for _, path := range in.leftOut {
		fmt.Fprintf(cmd.ErrOrStderr(), "agentchains: left out, because it is empty or its newest version was deleted: %s\n", names.shown(path))
	}
	if err := i.print(cmd.OutOrStdout()); err != nil || o.planOnly {
		return err
	}
	if !o.yes && i.count(planNew, planOverwrite) == 0 {
		return nil
	}
	if !o.yes && (!watched || !confirmed(cmd)) {
		fmt.Fprintln(cmd.ErrOrStderr(), "agentchains: nothing was written: --yes writes it")
		return nil
	}
	return i.write(cmd.Context(), cmd.OutOrStdout())
}

// read reads the source.
func (o *importOptions) read(cmd *cobra.Command, client *api.Client, in *importSource) error {
	if o.kv != "" {
		return in.readKV(cmd.Context(), client, o.kv)
	}
	parse, name := in.parseDotenv, o.dotenv
	switch {
	case o.doppler != "":
		parse, name = in.parseDoppler, o.doppler
	case o.infisical != "":
		parse, name = in.parseInfisical, o.infisical
	}
	from := cmd.InOrStdin()
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, mostSource+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case len(text) > mostSource:
		return fmt.Errorf("%s: %w", name, errSourceLarge)
	case !utf8.Valid(text):
		return fmt.Errorf("%s is not UTF-8", name)
	}
	if err := parse(strings.TrimPrefix(string(text), "\ufeff")); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// confirmed asks whether to write.
func confirmed(cmd *cobra.Command) bool {
	stdin, ok := cmd.InOrStdin().(*os.File)
	if !ok || !supervise.IsTerminal(stdin) {
		return false
	}
	fmt.Fprint(cmd.ErrOrStderr(), "Write this? Only yes is taken: ")
	answer, err := bufio.NewReader(stdin).ReadString('\n')
	return err == nil && strings.TrimSpace(answer) == "yes"
}
