package choice

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// window is how long a client stays with its mirrors.
const window = 10 * time.Minute

// Seed is the chance of a client: the same for ten minutes, so that it comes back to
// the same mirror. The ten minutes of each client begin at another time. An IPv6 client is
// its /64. salt makes different what need not be the same, such as projects.
func Seed(client netip.Addr, salt uint64, now time.Time) uint64 {
	client = client.Unmap()
	b := client.As16()
	high, low := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	if client.Is6() {
		low = 0
	}
	const seconds = int64(window / time.Second)
	id := mix(mix(high^salt) ^ low)
	return mix(id ^ uint64((now.Unix()+int64(id%uint64(seconds)))/seconds))
}

// uniform is a number between 0 and 1, both excluded, from a seed and what it is for.
func uniform(seed, what uint64) float64 {
	return (float64(mix(seed^mix(what))>>12) + 0.5) / (1 << 52)
}

// mix makes all bits of the result depend on all of x (the finaliser of SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
