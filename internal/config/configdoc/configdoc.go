// Package configdoc reads the doc comments of configuration structs from Go
// source, for the generated default file and reference page. It is used when
// these are generated and by the test that they are up to date, never by a
// running role.
package configdoc

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"

	"freshet/internal/config"
)

// Read returns the comments of the fields with a toml tag of every struct in
// the Go files of the given folders. dirs maps import paths to folders.
func Read(dirs map[string]string) (config.Docs, error) {
	docs := make(config.Docs)
	for path, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			return nil, fmt.Errorf("list Go files of %s: %w", dir, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("read comments of %s: %w", file, err)
			}
			for _, decl := range parsed.Decls {
				readDecl(path, decl, docs)
			}
		}
	}
	return docs, nil
}

func readDecl(path string, decl ast.Decl, docs config.Docs) {
	gen, ok := decl.(*ast.GenDecl)
	if !ok {
		return
	}
	for _, spec := range gen.Specs {
		typ, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		st, ok := typ.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range st.Fields.List {
			if f.Tag == nil || !strings.Contains(f.Tag.Value, `toml:"`) {
				continue
			}
			for _, name := range f.Names {
				docs[path+"."+typ.Name.Name+"."+name.Name] = strings.TrimSpace(f.Doc.Text())
			}
		}
	}
}
