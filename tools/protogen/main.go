// Protogen writes the Go code of .proto files beside them. It does what protoc with
// protoc-gen-go does, needs neither, and takes the compiler and the generator in the
// versions that go.mod names. With -check it writes nothing, and fails if that would
// change something.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/cmd/protoc-gen-go/internal_gengo"
	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail where that would change something")
	flag.Parse()
	for _, file := range flag.Args() {
		if err := generate(file, *check); err != nil {
			fmt.Fprintf(os.Stderr, "protogen: %s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

// generate writes snapshot.pb.go beside snapshot.proto.
func generate(file string, check bool) error {
	name := filepath.Base(file)
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{filepath.Dir(file)}},
		SourceInfoMode: protocompile.SourceInfoStandard, // for the comments
	}
	compiled, err := compiler.Compile(context.Background(), name)
	if err != nil {
		return err
	}
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{name},
		Parameter:      new("paths=source_relative"),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(compiled[0])},
	})
	if err != nil {
		return err
	}
	internal_gengo.GenerateFile(plugin, plugin.Files[0])
	response := plugin.Response()
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, out := range response.File {
		target := filepath.Join(filepath.Dir(file), out.GetName())
		if err := write(target, []byte(out.GetContent()), check); err != nil {
			return err
		}
	}
	return nil
}

func write(name string, content []byte, check bool) error {
	if !check {
		return os.WriteFile(name, content, 0o644)
	}
	if old, err := os.ReadFile(name); err != nil || !bytes.Equal(old, content) {
		return fmt.Errorf("%s is out of date: run make generate", name)
	}
	return nil
}
