package demo

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/template"

	"freshet/api/hubapi"
)

// commands says what to try. Every line of it works when it is pasted.
const commands = `
Freshet is running on this machine.

  hub         {{.Hub}}   (publish here)
  edge        {{.Edge}}   (clients ask here)
  mirror      {{.Mirror}}   (a whole copy, checked before it is served)
  director    {{.Director}}   (sends clients to mirrors)
  repository  {{.Repo}}
  token       {{.Dir}}/{{.PushToken}}
  console     {{.Console}}/console/

See all of it in a browser: open the console and sign in with the token, which is

  cat {{.Dir}}/{{.PushToken}}

For its pages Tokens and Audit add to your session, by a click on its name,

  cat {{.Dir}}/{{.AdminToken}}

Install the sample app with Flatpak, verified by signature:

  flatpak --user remote-add --if-not-exists freshet-demo {{.FlatpakRepo}}
  flatpak --user install -y freshet-demo {{.App}}
  flatpak --user run {{.App}}

Or the sample package with apt, dnf or pacman, verified by signature too, each into a
folder of its own:

  {{.Sudo}}apt-get -c {{.Clients}}/apt.conf update
  {{.Sudo}}apt-get -c {{.Clients}}/apt.conf install -y {{.Package}}
  {{.Clients}}/apt/usr/bin/{{.Package}}

  {{.Sudo}}dnf -c {{.Clients}}/dnf.conf --releasever=1 install -y {{.Package}}
  {{.Clients}}/dnf/usr/bin/{{.Package}}

  {{.Sudo}}pacman --config {{.Clients}}/pacman.conf -Sy --noconfirm {{.Package}}
  {{.Clients}}/pacman/usr/bin/{{.Package}}

Publish the next version of all of it, then watch the update arrive; the lines above
bring that of the package:

  {{.Exe}} run --demo --publish-next --dir {{.Dir}}
  flatpak --user update -y {{.App}}
  flatpak --user run {{.App}}

Ask the edge as a client does, and see what its cache says:

  curl -sI {{.Repo}}summary.idx | grep -i cache-status
  curl -s {{.Tree}}index.txt

See what the mirror holds, by when and why, and what it would have you mend; have it look
for something new; browse it at {{.Mirror}}/ or install from it:

  {{.Exe}} mirror status --admin {{.Admin}} --token-file {{.Dir}}/{{.MirrorToken}}
  {{.Exe}} mirror sync {{.DNF}} --admin {{.Admin}} --token-file {{.Dir}}/{{.MirrorToken}}
  {{.Exe}} mirror log {{.DNF}} --admin {{.Admin}} --token-file {{.Dir}}/{{.MirrorToken}}
  {{.Exe}} mirror doctor --admin {{.Admin}} --token-file {{.Dir}}/{{.MirrorToken}}
  curl -s {{.Mirror}}/{{.DNF}}/repodata/repomd.xml

Be sent to a mirror that has the file, of three samples; see which
they are, and why one of them is not used:

  curl -sL {{.Download}}
  curl -s '{{.Download}}?mirrorlist'
  curl -s '{{.Download}}?why'

Take the file from one of them, or give it to the one that lacks it, and the director
finds out in about a minute; in a browser {{.Director}}/-/ shows the network and its map:

  cp {{.MirrorsDir}}/berlin/{{.NewRelease}} {{.MirrorsDir}}/tokyo/
  curl -s {{.Director}}/-/status.json

See live what the edge does:

  {{.Exe}} edge top --admin {{.Admin}}

Push a folder of your own as a plain tree:

  mkdir -p /tmp/freshet-mine && date >/tmp/freshet-mine/date.txt
  {{.Exe}} push --hub {{.Hub}} --token-file {{.Dir}}/{{.PushToken}} --tree mine /tmp/freshet-mine
  curl -s {{.Edge}}{{.MineFiles}}date.txt

Look into the repository:

  {{.Exe}} hub refs {{.RepoName}} --hub {{.Hub}}

Remove the sample app again:

  flatpak --user uninstall -y {{.App}} {{.Runtime}}
  flatpak --user remote-delete freshet-demo

Ctrl-C ends everything. To start it again where it was:

  {{.Exe}} run --demo --dir {{.Dir}}

ready
`

func printCommands(out io.Writer, dir string, info *Info) error {
	exe, err := os.Executable()
	if err != nil {
		exe = "freshet"
	}
	sudo := "sudo "
	if os.Geteuid() == 0 {
		sudo = ""
	}
	t, err := template.New("").Parse(commands)
	if err != nil {
		return fmt.Errorf("what to try: %w", err)
	}
	err = t.Execute(out, map[string]string{
		"Hub": info.Hub, "Edge": info.Edge, "Repo": info.Repo, "Console": info.Console, "Admin": info.Admin, "FlatpakRepo": info.FlatpakRepo, "Tree": info.Trees[treeName],
		"MineFiles": hubapi.TreeFilesPath("mine"), "Dir": dir, "PushToken": pushToken, "AdminToken": adminToken, "Exe": exe, "App": appID, "Runtime": runtimeID,
		"Mirror": info.Mirror, "MirrorToken": mirrorToken, "DNF": dnfTree, "Director": info.Director, "Download": info.Director + "/" + downloads + "/" + newRelease, "MirrorsDir": filepath.Join(dir, mirrorsFolder), "NewRelease": newRelease,
		"RepoName": repoName, "Clients": filepath.Join(dir, clientsFolder), "Package": packageName, "Sudo": sudo,
	})
	if err != nil {
		return fmt.Errorf("what to try: %w", err)
	}
	return nil
}
