#!/bin/sh
# regenerate.sh [REPO] makes testdata/repo, or the repository that is given,
# anew with the tools of the field: ostree, flatpak, gpg. The tests read it to
# see that what those tools write is parsed, and encoded again to the same
# bytes. Signatures and keys differ from run to run.
set -eu
repo=${1:-$(dirname "$0")/repo}
work=$(mktemp -d)
trap 'gpgconf --kill all 2>/dev/null || true; rm -rf "$work"' EXIT
rm -rf "$repo"

export GNUPGHOME="$work/gnupg"
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --pinentry-mode loopback --passphrase '' \
	--quick-gen-key 'Test <test@example.org>' ed25519 sign never
key=$(gpg --list-keys --with-colons | awk -F: '/^fpr/ { print $10; exit }')
sign="--gpg-sign=$key --gpg-homedir=$GNUPGHOME"
ref=app/org.example.App/x86_64/stable

app() { # VERSION: the directory of a build
	rm -rf "$work/app"
	mkdir -p "$work/app/files/bin" "$work/app/files/share/doc" "$work/app/export"
	printf '[Application]\nname=org.example.App\nruntime=org.example.Platform/x86_64/stable\ncommand=hello\n' >"$work/app/metadata"
	printf '#!/bin/sh\necho hello v%s\n' "$1" >"$work/app/files/bin/hello"
	chmod 755 "$work/app/files/bin/hello"
	ln -s hello "$work/app/files/bin/hi"
	: >"$work/app/files/share/doc/empty"
	{ seq 1 600; echo "version $1"; } >"$work/app/files/share/doc/numbers"
	dd if=/dev/zero bs=1024 count=1100 status=none >"$work/app/files/share/zeros" # large: a fallback in deltas
}
export_app() { # VERSION REPO
	app "$1"
	flatpak build-export --timestamp="2024-01-0$1T00:00:00Z" --disable-sandbox --no-update-summary \
		$sign -s "Version $1" "$2" "$work/app" stable >/dev/null
}
update() {
	flatpak build-update-repo $sign --generate-static-deltas "$@" "$repo" >/dev/null
}

ostree init --repo="$repo" --mode=archive-z2 --collection-id=org.example.Repo
export_app 1 "$repo"
update --title=Example --default-branch=stable

# A tree with owners, modes and extended attributes of its own, and a commit
# message with a body. Not a Flatpak ref: the summary does not list it.
mkdir -p "$work/tree/private"
echo secret >"$work/tree/private/file"
chmod 600 "$work/tree/private/file"
chmod 2750 "$work/tree/private"
setfattr -n user.note -v 'a note' "$work/tree/private/file" "$work/tree/private" 2>/dev/null ||
	python3 -c 'import os, sys; [os.setxattr(p, "user.note", b"a note") for p in sys.argv[1:]]' \
		"$work/tree/private/file" "$work/tree/private"
ostree --repo="$repo" commit -b plain/tree --owner-uid=1000 --owner-gid=100 --timestamp='2024-01-01 00:00:00 +0000' \
	-s Subject -m 'A body
of two lines.' --add-metadata-string=version=1.0 "$work/tree" >/dev/null

# The second version goes through another repository, as on a hub.
ostree init --repo="$work/upload" --mode=archive-z2 --collection-id=org.example.Repo.Build1
export_app 2 "$work/upload"
flatpak build-commit-from --no-update-summary --timestamp=2024-01-02T00:00:00Z $sign --extra-collection-id=org.example.Extra \
	--end-of-life='Use another' --token-type=1 --subset=floss --src-repo="$work/upload" "$repo" $ref >/dev/null
update --title='Example 2'

# What is not the format's but this machine's.
rm -rf "$repo/.lock" "$repo/tmp" "$repo/state" "$repo/extensions"
find "$repo" -name '*.commitmeta2' -delete
