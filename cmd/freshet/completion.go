package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"freshet/internal/auth"
)

func newCompletionCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:     "completion SHELL",
		Short:   "Print the completions for a shell: bash, zsh, fish or powershell",
		GroupID: "setup",
		Long: `Completion prints a script by which a shell completes commands, flags and
their values. SHELL is bash, zsh, fish or powershell. "make install" puts the
scripts where the shells look for them.`,
		Example: `  # bash, in this session (needs the package bash-completion)
  source <(freshet completion bash)

  # for every session
  freshet completion bash >~/.local/share/bash-completion/completions/freshet
  freshet completion zsh >"${fpath[1]}/_freshet"
  freshet completion fish >~/.config/fish/completions/freshet.fish`,
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usageError(cmd, "unknown shell %q, known are bash, zsh, fish and powershell", args[0])
		},
	}
}

// registerCompletions tells the shells what values the flags and arguments of
// cmd and of the commands below it take. Flags of one name take the same
// everywhere; those that are not listed take file names.
func registerCompletions(cmd *cobra.Command) {
	var scopes []string
	for _, scope := range auth.Scopes() {
		scopes = append(scopes, string(scope))
	}
	folders := cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	tomlFiles := cobra.FixedCompletions([]string{"toml"}, cobra.ShellCompDirectiveFilterFileExt)
	words := func(words ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)
	}
	flags := map[string]cobra.CompletionFunc{
		"config":        tomlFiles,
		"dir":           folders,
		"follow":        words("auto", "on", "off"),
		"log-format":    words("text", "json"),
		"access-format": words("text", "json", "combined"),
		"access-log":    cobra.FixedCompletions([]string{"log", "stdout", "off"}, cobra.ShellCompDirectiveDefault),
		"log-level":     words("debug", "info", "warn", "error"),
		"rules":         words("auto", "none"),
		"scope":         words(scopes...),
		"store":         folders,
	}
	for _, name := range []string{"admin", "base-url", "database", "duration", "hub", "listen", "listen-tls", "listen-h3", "acme-host", "name", "origin", "public-url", "size"} {
		flags[name] = words()
	}
	// By their usage lines, which end in what they take.
	arguments := map[string]cobra.CompletionFunc{"FILE": tomlFiles, "DIR": folders, "FOLDER": folders}
	registerBelow(cmd, flags, arguments)
}

func registerBelow(cmd *cobra.Command, flags, arguments map[string]cobra.CompletionFunc) {
	for _, sub := range cmd.Commands() {
		registerBelow(sub, flags, arguments)
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		complete, known := flags[f.Name]
		if _, own := cmd.GetFlagCompletionFunc(f.Name); known && !own {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails for flags that are absent or registered
		}
	})
	if cmd.ValidArgsFunction == nil && len(cmd.ValidArgs) == 0 && !cmd.HasSubCommands() {
		cmd.ValidArgsFunction = firstArgument(cmd, arguments)
	}
}

// firstArgument completes the one argument of cmd, and nothing after it.
func firstArgument(cmd *cobra.Command, arguments map[string]cobra.CompletionFunc) cobra.CompletionFunc {
	var first cobra.CompletionFunc
	for word, complete := range arguments {
		if cmd.Use == cmd.Name()+" "+word {
			first = complete
		}
	}
	return func(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if first == nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return first(cmd, args, toComplete)
	}
}
