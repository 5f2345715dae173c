package flatpak

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/peertest"
)

func TestParsePermissions(t *testing.T) {
	for _, test := range []struct {
		name, metadata string
		want           Permissions
	}{
		{"none", "[Application]\nname=a.b.C\n", nil},
		{"context", "[Context]\nshared=network;ipc;\nsockets=x11;!pulseaudio;\nfilesystems=home:ro;\n", Permissions{"--filesystem=home:ro", "--nosocket=pulseaudio", "--share=ipc", "--share=network", "--socket=x11"}},
		{"twice", "[Context]\nshared=ipc;ipc;\n", Permissions{"--share=ipc"}},
		{"buses", "[Session Bus Policy]\norg.a=talk\norg.b=own\norg.c=none\norg.d=see\n\n[System Bus Policy]\norg.e=talk\n", Permissions{"--no-talk-name=org.c", "--own-name=org.b", "--system-talk-name=org.e", "--talk-name=org.a", "[Session Bus Policy] org.d=see"}},
		{"unknown", "[Context]\nmagic=a;b;\n", Permissions{"[Context] magic=a;b;"}},
		{"denied without an option", "[Context]\npersistent=!.a;\n", Permissions{"[Context] persistent=!.a;"}},
		{"policy", "[Policy Tracker3]\ndataspaces=a;!b;\n", Permissions{"--add-policy=Tracker3.dataspaces=a", "--remove-policy=Tracker3.dataspaces=b"}},
		{"usb", "[USB Devices]\nenumerable-devices=cls:06:*;\nhidden-devices=vnd:1234;\n", Permissions{"--nousb=vnd:1234", "--usb=cls:06:*"}},
		{"environment", "[Environment]\nA=b;c\n", Permissions{"--env=A=b;c"}},
		{"unset", "[Context]\nunset-environment=A;\n\n[Environment]\nA=\nB=\n", Permissions{"--env=B=", "--unset-env=A"}},
		{"others", "[Extension org.a.b]\ndirectory=x\n\n[Build]\nbuilt-extensions=a\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParsePermissions(test.metadata)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, err := ParsePermissions("no key file"); !errors.Is(err, ErrMetadata) {
		t.Errorf("no key file: %v", err)
	}
}

func TestPermissionsWithout(t *testing.T) {
	before, after := Permissions{"--share=ipc", "--socket=x11"}, Permissions{"--filesystem=home", "--socket=x11"}
	if got := after.Without(before); !slices.Equal(got, Permissions{"--filesystem=home"}) {
		t.Errorf("gained %q", got)
	}
	if got := before.Without(after); !slices.Equal(got, Permissions{"--share=ipc"}) {
		t.Errorf("lost %q", got)
	}
}

// What flatpak writes for its options is read as the same options.
func TestPermissionsOfFlatpak(t *testing.T) {
	peertest.Require(t, "flatpak")
	options := Permissions{
		"--add-policy=Tracker3.dataspaces=music", "--allow=devel", "--allow=multiarch", "--device=dri", "--env=GREETING=hello world; x", "--filesystem=home:ro",
		"--filesystem=xdg-download", "--no-talk-name=org.example.Shy", "--nosocket=pulseaudio", "--own-name=org.example.App.*",
		"--persist=.config/app", "--remove-policy=Tracker3.dataspaces=video", "--share=ipc", "--share=network", "--socket=wayland",
		"--socket=x11", "--system-talk-name=org.freedesktop.UPower", "--talk-name=org.example.Service", "--unset-env=LANG",
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	const metadata = "[Application]\nname=org.example.App\nruntime=org.example.Platform/x86_64/1\nsdk=org.example.Sdk/x86_64/1\n"
	if err := os.WriteFile(filepath.Join(dir, "metadata"), []byte(metadata), 0o644); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"build-finish", "--no-inherit-permissions"}, options...)
	peertest.Run(t, "", []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir}, "flatpak", append(args, dir)...)
	written, err := os.ReadFile(filepath.Join(dir, "metadata"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParsePermissions(string(written))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(options, got); diff != "" {
		t.Errorf("%s\n%s", diff, written)
	}
}

func FuzzPermissions(f *testing.F) {
	f.Add("[Context]\nshared=ipc;!network;\n\n[Session Bus Policy]\norg.a=talk\n")
	f.Add("[Policy A]\nb=c;\n\n[Environment]\nX=\n")
	f.Fuzz(func(t *testing.T, metadata string) {
		p, err := ParsePermissions(metadata)
		if err != nil {
			return
		}
		if !slices.IsSorted(p) || len(p.Without(p)) != 0 {
			t.Errorf("%q is not a sorted set", p)
		}
	})
}
