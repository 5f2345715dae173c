package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"freshet/api/hubapi"
	"freshet/internal/auth"
)

// tokenNeed is what the token of a command must have.
type tokenNeed struct {
	// sub is that of the token; builds when it is empty, unless managing says that it is
	// for managing tokens.
	sub      string
	managing bool
	// scopes are needed all, or with anyOf one of them.
	scopes []auth.Scope
	anyOf  bool
}

// scopes needs a token for builds with all of the scopes.
func scopes(all ...auth.Scope) tokenNeed { return tokenNeed{scopes: all} }

// managing needs a token for managing tokens.
func managing() tokenNeed {
	return tokenNeed{managing: true, scopes: []auth.Scope{auth.ScopeTokenManagement}}
}

// String says it in the words of the help.
func (n tokenNeed) String() string {
	quoted := make([]string, len(n.scopes))
	for i, scope := range n.scopes {
		quoted[i] = `"` + string(scope) + `"`
	}
	word := " and "
	if n.anyOf {
		word = " or "
	}
	text := strings.Join(quoted, word)
	if n.sub != "" {
		text += ` (sub "` + n.sub + `")`
	}
	return text
}

// command is how the operator of the hub makes such a token; repo is the repository or
// tree that it is for, "" for all.
func (n tokenNeed) command(repo string) string {
	words := []string{"freshet token create --dir DIR --name NAME"}
	switch {
	case n.managing:
		words = append(words, "--sub ''")
	case n.sub != "":
		words = append(words, "--sub", n.sub)
	}
	list := n.scopes
	if n.anyOf {
		list = list[:1]
	}
	for _, scope := range list {
		words = append(words, "--scope", string(scope))
	}
	if repo != "" {
		words = append(words, "--repo", repo)
	}
	return strings.Join(words, " ")
}

// explain lets the command say, when the hub refuses its token, how one is made that
// does.
func (n tokenNeed) explain(cmd *cobra.Command) {
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := run(cmd, args)
		refused, ok := errors.AsType[*hubapi.Error](err)
		if oidc := cmd.Flags().Lookup("oidc"); oidc != nil && oidc.Changed {
			return err // its token is made by the hub
		}
		if !ok || refused.Kind != hubapi.ErrInsufficient && refused.Kind != hubapi.ErrInvalidToken {
			return err
		}
		return fmt.Errorf("%w\nwhere the hub runs (DIR is its folder), this makes a token that does: %s", err, n.command(n.repo(cmd, args)))
	}
}

// repo is the repository or tree that a command is about; "" when it is about none, or
// when what is needed is for all.
func (n tokenNeed) repo(cmd *cobra.Command, args []string) string {
	for _, name := range [...]string{"repo", "tree"} {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
			return flag.Value.String()
		}
	}
	if words := strings.Fields(cmd.Use); !n.managing && len(args) > 0 && len(words) > 1 && (words[1] == "REPO" || words[1] == "TREE") {
		return args[0]
	}
	return ""
}
