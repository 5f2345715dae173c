package choice

// Reason is why a mirror is left out.
type Reason uint8

// The reasons.
const (
	// None: it is not left out.
	None Reason = iota
	// Disabled: operators have taken it out of use.
	Disabled
	// NoFile: it does not have the file, as far as is known.
	NoFile
	// OtherVersion: it has another file under this name than the origin.
	OtherVersion
	// NotCurrent: it does not have all of the repository's current version, and the file
	// is one of those that say which version that is.
	NotCurrent
	// Doubtful: it is not certain enough that it has the file: it was missing when last
	// looked for, or nobody has looked for too long.
	Doubtful
	// CountryOnly, ASNOnly, NetblocksOnly: it is for others than this client.
	CountryOnly
	ASNOnly
	NetblocksOnly
	// NotCountry, NotASN, NotNetblock: it is not for clients like this one.
	NotCountry
	NotASN
	NotNetblock
	// NotPath: it is not used for this path.
	NotPath
	// TooLarge: it is not used for files of this size.
	TooLarge
	// NoScheme: it has no URL of a scheme that the client takes.
	NoScheme
	// NoFamily: it works, but not over the client's address family.
	NoFamily
	// Down: it does not work.
	Down
	// Exclusive: another mirror is the only one for the client's network.
	Exclusive
	numReasons = iota
)

// String is the word of the reason in statistics, "" for None.
func (r Reason) String() string {
	words := [numReasons]string{
		"", "disabled", "no_file", "other_version", "not_current", "doubtful", "country_only", "asn_only", "netblocks_only", "not_country",
		"not_asn", "not_netblock", "not_path", "too_large", "no_scheme", "no_family", "down", "exclusive",
	}
	return words[min(r, numReasons-1)]
}

// String is the word of the tier.
func (r Tier) String() string {
	words := [NumTiers]string{"netblock", "network", "country", "neighbour", "continent", "world"}
	return words[min(r, NumTiers-1)]
}
