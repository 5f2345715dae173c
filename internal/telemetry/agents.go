package telemetry

import "bytes"

// agents are families of programs, by what their names have in common, in lower case. The
// first that fits counts, so that those which name others besides themselves come first.
var agents = [...]struct{ mark, family string }{
	{"flatpak", "flatpak"},
	{"libostree", "libostree"},
	{"ostree", "libostree"},
	{"libdnf5", "dnf5"},
	{"dnf5", "dnf5"},
	{"libdnf", "libdnf"},
	{"microdnf", "libdnf"},
	{"dnf/", "dnf"},
	{"urlgrabber", "yum"},
	{"yum", "yum"},
	{"packagekit", "packagekit"},
	{"rpm-ostree", "rpm-ostree"},
	{"librepo", "librepo"},
	{"zypp", "zypp"},
	{"debian apt-http", "apt"},
	{"apt-http", "apt"},
	{"apt-cacher", "apt-cacher"},
	{"aptly", "aptly"},
	{"apt", "apt"},
	{"debootstrap", "debootstrap"},
	{"pacman", "pacman"},
	{"libalpm", "pacman"},
	{"pamac", "pamac"},
	{"powerpill", "pacman"},
	{"apk-tools", "apk"},
	{"libfetch", "apk"},
	{"xbps", "xbps"},
	{"fwupd", "fwupd"},
	{"snapd", "snapd"},
	{"fdroid", "fdroid"},
	{"f-droid", "fdroid"},
	{"anaconda", "anaconda"},
	{"freshet", "freshet"},
	{"mirrorbits", "mirror-scan"},
	{"mirrorbrain", "mirror-scan"},
	{"mirrormanager", "mirror-scan"},
	{"lftp", "lftp"},
	{"rsync", "rsync"},
	{"aria2", "aria2"},
	{"axel", "axel"},
	{"wget", "wget"},
	{"curl", "curl"},
	{"nexus", "artifact-proxy"},
	{"artifactory", "artifact-proxy"},
	{"pulp", "pulp"},
	{"prometheus", "monitor"},
	{"blackbox", "monitor"},
	{"uptime", "monitor"},
	{"nagios", "monitor"},
	{"check_http", "monitor"},
	{"zabbix", "monitor"},
	{"bot", "crawler"},
	{"crawl", "crawler"},
	{"spider", "crawler"},
	{"slurp", "crawler"},
	{"python", "python"},
	{"go-http-client", "go"},
	{"okhttp", "java"},
	{"java", "java"},
	{"powershell", "powershell"},
	{"vlc", "vlc"},
	{"mozilla/", "browser"},
	{"opera", "browser"},
}

// maxAgent is how much of the name of a program is looked at.
const maxAgent = 128

// familyOf returns the family of a program by what it calls itself, in lower case.
func familyOf(agent []byte) string {
	if len(agent) == 0 {
		return "none"
	}
	for _, a := range &agents {
		if bytes.Contains(agent, []byte(a.mark)) {
			return a.family
		}
	}
	return other
}
