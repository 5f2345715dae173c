package splice

import "hash/crc32"

// combine returns the CRC-32 of two runs of bytes that follow each other from the
// CRC-32 of each and the length of the second.
//
// A CRC is a polynomial over GF(2) modulo the generator: appending n bytes
// multiplies it by x^(8n). With the reflected bit order of IEEE, bit 31 is the
// coefficient of x^0.
func combine(first, second uint32, secondSize int64) uint32 {
	if secondSize == 0 {
		return first
	}
	return multiply(power(uint64(secondSize)*8), first) ^ second
}

const one = uint32(1) << 31 // the polynomial 1

// multiply returns a·b modulo the generator polynomial.
func multiply(a, b uint32) uint32 {
	product := uint32(0)
	for bit := one; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}

// power returns x^n modulo the generator polynomial.
func power(n uint64) uint32 {
	result, square := one, one>>1
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = multiply(result, square)
		}
		square = multiply(square, square)
	}
	return result
}
