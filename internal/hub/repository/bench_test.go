package repository

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// diskSink writes objects straight into a repository.
type diskSink string

// Put implements ostree.Sink.
func (s diskSink) Put(name ostree.ObjectName, write func(io.Writer) error) error {
	path := filepath.Join(string(s), name.Path())
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var data bytes.Buffer
	if err := write(&data); err != nil {
		return err
	}
	return os.WriteFile(path, data.Bytes(), 0o600)
}

// syntheticTree is an application as they are on average: 3.4 kB of catalogue,
// 16 kB of icons, 20 objects.
func syntheticTree(i, version int) tree {
	random := rand.New(rand.NewPCG(uint64(i), uint64(version)))
	words := strings.Fields("lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua ut enim ad minim veniam")
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(words[random.IntN(len(words))])
			b.WriteByte(' ')
		}
		return b.String()
	}
	bytesOf := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	id := syntheticID(i)
	var xml strings.Builder
	fmt.Fprintf(&xml, `<?xml version="1.0"?><components version="0.8" origin="flatpak"><component type="desktop-application"><id>%s</id><name>App %d</name>`, id, i)
	for _, lang := range []string{"de", "fr", "es", "it", "pt_BR", "ru", "zh_CN", "ja"} {
		fmt.Fprintf(&xml, "\n  <name xml:lang=%q>App %d</name>\n  <summary xml:lang=%q>%s</summary>", lang, i, lang, text(6))
	}
	fmt.Fprintf(&xml, "<description><p>%s</p><p>%s</p><p>%s</p></description>", text(40), text(40), text(40))
	for k := range 4 {
		fmt.Fprintf(&xml, `<release version="1.%d.%d"><description><p>%s</p></description></release>`, version, k, text(15))
	}
	xml.WriteString("</component></components>")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, xml.String())
	_ = w.Close()
	return tree{
		"metadata": "[Application]\nname=" + id + "\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\ncommand=app\n\n" +
			"[Context]\nshared=network;ipc;\nsockets=x11;wayland;pulseaudio;\ndevices=dri;\nfilesystems=xdg-documents;\n\n" +
			"[Session Bus Policy]\norg.freedesktop.Notifications=talk\n\n[Extension " + id + ".Locale]\ndirectory=share/runtime/locale\nautodelete=true\nlocale-subset=true\n",
		"files/bin/app": bytesOf(3000),
		"files/share/app-info/xmls/" + id + ".xml.gz":               packed.String(),
		"files/share/app-info/icons/flatpak/64x64/" + id + ".png":   bytesOf(4000),
		"files/share/app-info/icons/flatpak/128x128/" + id + ".png": bytesOf(12000),
		"export/share/applications/" + id + ".desktop":              "[Desktop Entry]\nName=" + id + "\n",
	}
}

func syntheticID(i int) string { return fmt.Sprintf("org.bench.App%05d", i) }

// synthetic makes a repository of n applications.
func synthetic(b *testing.B, n int) *hub {
	b.Helper()
	h := newHub(b, func(o *Options) { o.Signer, _ = newSigner(b) })
	h.close()
	sink := diskSink(h.opt.Dir)
	for i := range n {
		u := uploader{}
		ref := appRef(syntheticID(i))
		sum := u.commit(b, ref, syntheticTree(i, 0), gvariant.Entry{Key: "xa.download-size", Value: gvariant.Uint64BE(20000)})
		for name, data := range u {
			err := sink.Put(name, func(w io.Writer) error {
				_, err := w.Write(data)
				return err
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		path := filepath.Join(h.opt.Dir, ostree.RefPath(ref))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(sum+"\n"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	h.open()
	return h
}

// BenchmarkPublishOneApp publishes one changed application into repositories of
// growing size. user-µs/op and system-µs/op are the processor time of the whole
// process, which waiting for the disk does not blur.
func BenchmarkPublishOneApp(b *testing.B) {
	for _, n := range []int{500, 1000, 2000, 4000} {
		b.Run(fmt.Sprintf("apps=%d", n), func(b *testing.B) {
			h := synthetic(b, n)
			version := 0
			next := func() PublishRequest {
				version++
				i := version * 37 % n
				u := uploader{}
				ref := appRef(syntheticID(i))
				sum := u.commit(b, ref, syntheticTree(i, version))
				request := h.commit(u, map[string]string{ref: sum})
				return request
			}
			for range 3 { // fills the caches of a hub that has just started
				h.publish(next())
			}
			var user, system float64
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				request := next()
				b.StartTimer()
				userBefore, systemBefore := processorTime(b)
				h.publish(request)
				userAfter, systemAfter := processorTime(b)
				user += userAfter - userBefore
				system += systemAfter - systemBefore
			}
			b.ReportMetric(user/float64(b.N), "user-µs/op")
			b.ReportMetric(system/float64(b.N), "system-µs/op")
			h.log.Reset()
		})
	}
}

// BenchmarkImport takes in an application of 500 small files, from the upload to the
// removal of the build. Allocations are those of all of it; cpu-µs/object is the
// processor time of the whole process for each stage and object.
func BenchmarkImport(b *testing.B) {
	const files = 500
	h := newHub(b, func(o *Options) { o.Signer, _ = newSigner(b) })
	ref := appRef(syntheticID(0))
	version, objects := 0, 0
	stages := []string{"upload", "commit", "publish", "remove"}
	cpu := make([]float64, len(stages))
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		version++
		content := syntheticTree(0, version)
		for i := range files {
			content[fmt.Sprintf("files/share/%02d/%03d", i%20, i)] = fmt.Sprint("file ", i, " of version ", version)
		}
		u := uploader{}
		refs := map[string]string{ref: u.commit(b, ref, content)}
		objects += len(u)
		b.StartTimer()
		var build *Build
		request := PublishRequest{Key: "k"}
		for i, stage := range []func(){
			func() { build = h.upload(u) },
			func() {
				made, err := build.Commit(b.Context(), CommitRequest{Refs: refs}, nil)
				if err != nil {
					b.Fatal(err)
				}
				request.Build, request.Refs = build, made
			},
			func() { h.publish(request) },
			func() {
				if err := build.Remove(b.Context()); err != nil {
					b.Fatal(err)
				}
			},
		} {
			user, system := processorTime(b)
			stage()
			userAfter, systemAfter := processorTime(b)
			cpu[i] += userAfter + systemAfter - user - system
		}
	}
	for i, stage := range stages {
		b.ReportMetric(cpu[i]/float64(objects), stage+"-cpu-µs/object")
	}
	h.log.Reset()
}

// processorTime is what the process has used, in microseconds.
func processorTime(b *testing.B) (user, system float64) {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return float64(usage.Utime.Nano()) / 1e3, float64(usage.Stime.Nano()) / 1e3
}

// BenchmarkReopen is what a restart costs, with and without what the database
// remembers.
func BenchmarkReopen(b *testing.B) {
	h := synthetic(b, 2000)
	h.publish(PublishRequest{Key: "k", Refs: map[string]string{appRef(syntheticID(0)): ""}, EndOfLife: "so that the database learns of everything"})
	b.Run("database", func(b *testing.B) {
		for b.Loop() {
			h.reopen()
		}
		if n := len(h.repo.unsaved); n > 0 {
			b.Errorf("%d commits were read", n)
		}
	})
	b.Run("empty", func(b *testing.B) {
		for b.Loop() {
			clear(h.cache)
			h.reopen()
		}
	})
}
