package layout

import (
	"path"
	"strings"
)

// MediaType is the media type by which a file of a repository is sent, by its name.
// Types that a browser would run or lay out are told as what they are only where
// people read them: pages, notes and pictures.
func MediaType(name string) string {
	switch strings.ToLower(path.Ext(name)) {
	case ".flatpakrepo":
		return "application/vnd.flatpak.repo"
	case ".flatpakref":
		return "application/vnd.flatpak.ref"
	case ".rpm", ".drpm":
		return "application/x-rpm"
	case ".deb", ".udeb", ".ddeb":
		return "application/vnd.debian.binary-package"
	case ".iso":
		return "application/x-iso9660-image"
	case ".xml":
		return "application/xml"
	case ".json":
		return "application/json"
	case ".html", ".htm":
		return "text/html; charset=utf-8"
	case ".txt", ".asc":
		return "text/plain; charset=utf-8"
	case ".gz", ".tgz":
		return "application/gzip"
	case ".xz":
		return "application/x-xz"
	case ".zst":
		return "application/zstd"
	case ".bz2":
		return "application/x-bzip2"
	case ".png":
		return "image/png"
	case ".svg":
		return "image/svg+xml"
	case ".torrent":
		return "application/x-bittorrent"
	}
	return "application/octet-stream"
}
