package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a mistake on the command line: it names the command and where
// its help is.
func usageError(cmd *cobra.Command, format string, args ...any) error {
	path := cmd.CommandPath()
	_, name, _ := strings.Cut(path, " ")
	if name != "" {
		name += ": "
	}
	return fmt.Errorf("%s%w; see %s --help", name, fmt.Errorf(format, args...), path)
}

// ownWords makes cmd and the commands below it speak of mistakes in the words
// of their own usage lines.
func ownWords(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		ownWords(sub)
	}
	cmd.SetFlagErrorFunc(flagError)
	switch {
	case !cmd.HasParent():
		cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return exclusive(cmd) }
	case cmd.HasSubCommands() && cmd.RunE == nil:
		// Without a RunE of its own, a command of commands answers a mistyped
		// one with its help, and success.
		cmd.DisableFlagsInUseLine = true
		cmd.RunE = runGroup
	default:
		cmd.Args = countArguments
	}
}

// flagError is what is wrong with the flags of a command line.
func flagError(cmd *cobra.Command, err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return usageError(cmd, "%w", err)
	}
	cause := errors.Unwrap(invalid)
	if _, ok := errors.AsType[*strconv.NumError](cause); ok {
		cause = fmt.Errorf("want a number, got %q", invalid.GetValue())
	}
	return usageError(cmd, "--%s: %w", invalid.GetFlag().Name, cause)
}

// runGroup runs a command that only holds others.
func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	return unknownCommand(cmd, args[0])
}

// unknownCommand says which commands there are below cmd.
func unknownCommand(cmd *cobra.Command, name string) error {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return usageError(cmd, "unknown command %q: want %s", name, strings.Join(names, ", "))
}

// countArguments compares the arguments with the words behind the command's
// name in its usage line: "[NAME]" may be left out, "NAME..." be repeated.
func countArguments(cmd *cobra.Command, args []string) error {
	wanted := strings.Fields(cmd.Use)[1:]
	needed, most := 0, len(wanted)
	for _, word := range wanted {
		if !strings.HasPrefix(word, "[") {
			needed++
		}
		if strings.HasSuffix(strings.TrimSuffix(word, "]"), "...") {
			most = len(args)
		}
	}
	switch {
	case len(args) < needed:
		return usageError(cmd, "%s is missing", strings.TrimSuffix(wanted[len(args)], "..."))
	case len(wanted) == 0 && len(args) > 0 && cmd.HasAvailableSubCommands():
		return unknownCommand(cmd, args[0])
	case len(wanted) == 0 && len(args) > 0:
		return usageError(cmd, "takes no arguments, got %q", args[0])
	case len(args) > most:
		return usageError(cmd, "takes %s alone, got %q too", strings.Join(wanted, " "), args[len(wanted)])
	}
	return nil
}

// exclusive reports flags that were given together and exclude one another, as
// cobra's MarkFlagsMutuallyExclusive noted it on the flags.
func exclusive(cmd *cobra.Command) error {
	const annotation = "cobra_annotation_mutually_exclusive" // unexported there
	given := make(map[string][]string)
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) { // those that were given, sorted
		for _, group := range f.Annotations[annotation] {
			given[group] = append(given[group], "--"+f.Name)
			if err == nil && len(given[group]) > 1 {
				err = usageError(cmd, "%s exclude one another", strings.Join(given[group], " and "))
			}
		}
	})
	return err
}
