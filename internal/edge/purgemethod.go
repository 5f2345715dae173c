package edge

import (
	"net/http"
	"net/netip"
	"strings"

	"freshet/api/edgeapi"
	"freshet/internal/control"
	"freshet/internal/edge/diskcache"
	"freshet/internal/role"
)

// methodPurge is what Varnish, Squid and Fastly are told to forget a URL by.
const methodPurge = "PURGE"

// purgeMethod answers PURGE on the public listener. It never asks the origin.
func (rp *reply) purgeMethod(s *site) {
	e, r := rp.e, rp.r
	if !s.purgeMethod {
		rp.w.Header().Set("Allow", "GET, HEAD")
		rp.refuse(http.StatusMethodNotAllowed, "bad_method", "PURGE is not enabled for this site")
		return
	}
	o := control.Order{From: r.RemoteAddr, Via: "public", Action: "purge", Result: control.Done, Count: -1}
	err := e.purgeByMethod(rp.c, s, r, &o)
	if err != nil {
		refused := refusalOf(err)
		o.Result, o.Detail = refused.Reason, refused.Message
		role.SetReason(rp.w, r, refused.Reason, refused.Message)
		if refused.Status == http.StatusUnauthorized {
			rp.w.Header().Set("WWW-Authenticate", `Bearer realm="freshet edge"`)
		}
		writeJSON(rp.w, refused.Status, refused)
	} else {
		writeJSON(rp.w, http.StatusOK, map[string]string{"status": "ok"})
	}
	e.audit.Note(r.Context(), o)
}

// purgeByMethod carries out what the fields of a PURGE ask for.
func (e *Edge) purgeByMethod(c *call, s *site, r *http.Request, o *control.Order) error {
	if err := e.mayPurge(s, r, o); err != nil {
		return err
	}
	hard, err := hardness(r.Header)
	if err != nil {
		return err
	}
	what := edgeapi.PurgeRequest{Site: s.label(), Hard: hard}
	sel := selection{site: s}
	for _, name := range [...]string{"Surrogate-Key", "Xkey", "Xkey-Purge", "Xkey-Softpurge"} {
		for _, line := range r.Header[name] {
			what.Tags = appendTags(what.Tags, line)
			sel.tags = true
		}
	}
	if sel.tags {
		if len(what.Tags) == 0 || len(what.Tags) == maxTags {
			return badOrder("want 1 to %d tags", maxTags-1)
		}
		for _, tag := range what.Tags {
			sel.keys = append(sel.keys, banKey(keyTag, s.name, tag))
		}
	} else {
		what.URLs = []string{c.uri}
		_, query, _ := strings.Cut(c.uri, "?")
		sel.keys = []diskcache.Key{urlKey(s.name, c.path, query)}
		sel.missing, sel.onlyThese = []diskcache.ID{c.id}, true
	}
	o.What = what
	if err := e.purgeSelected([]selection{sel}, hard); err != nil {
		return refusal(http.StatusInsufficientStorage, "store_full", "purged, but a crash may undo it: %v", err)
	}
	mode := "soft"
	if hard {
		mode = "hard"
	}
	e.metrics.orders.WithLabelValues(mode).Inc()
	return nil
}

// mayPurge lets a client with a token through, and whoever is in one of the
// networks that need none. A token that is not known helps nobody.
func (e *Edge) mayPurge(s *site, r *http.Request, o *control.Order) error {
	client, err := e.clients.Load().Of(r)
	if err == nil {
		o.Client = client.Name
		if !client.May(rightPurge) || !client.MayTouch(s.label()) {
			return refusal(http.StatusForbidden, "forbidden", "client %q may not purge site %q", client.Name, s.label())
		}
		return nil
	}
	if r.Header.Get("Authorization") != "" || r.Header.Get("Fastly-Key") != "" {
		return err
	}
	from, perr := netip.ParseAddrPort(r.RemoteAddr)
	if perr != nil {
		return err
	}
	for _, network := range s.purgeFrom {
		if network.Contains(from.Addr().Unmap().WithZone("")) {
			o.Client = network.String()
			return nil
		}
	}
	return err
}

// hardness reads what the fields say of how to purge: soft, unless Purge-Mode
// says otherwise.
func hardness(h http.Header) (hard bool, err error) {
	switch mode := strings.ToLower(h.Get("Purge-Mode")); mode {
	case "", "soft":
		return false, nil
	case "hard":
		if h.Get("Fastly-Soft-Purge") == "1" || len(h["Xkey-Softpurge"]) > 0 {
			return false, badOrder("Purge-Mode is hard, and another field says soft")
		}
		return true, nil
	default:
		return false, badOrder(`Purge-Mode is %.20q, want "soft" or "hard"`, mode)
	}
}
