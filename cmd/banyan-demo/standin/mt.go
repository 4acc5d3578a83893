package standin

// mersenne is PHP's mt_rand(): MT19937, and a fair choice of a range.
type mersenne struct {
	state [624]uint32
	next  int
}

func newMersenne(seed uint32) *mersenne {
	m := &mersenne{next: 624}
	m.state[0] = seed
	for i := 1; i < len(m.state); i++ {
		m.state[i] = 1812433253*(m.state[i-1]^m.state[i-1]>>30) + uint32(i)
	}
	return m
}

func (m *mersenne) uint32() uint32 {
	if m.next == len(m.state) {
		m.reload()
	}
	y := m.state[m.next]
	m.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

func (m *mersenne) reload() {
	n := len(m.state)
	for i := range n {
		y := m.state[i]&0x80000000 | m.state[(i+1)%n]&0x7fffffff
		m.state[i] = m.state[(i+397)%n] ^ y>>1 ^ -(y&1)&0x9908b0df
	}
	m.next = 0
}

// between is mt_rand(low, high).
func (m *mersenne) between(low, high int) int {
	span := uint32(high-low) + 1
	v := m.uint32()
	if span&(span-1) == 0 {
		return low + int(v&(span-1))
	}
	const most = 1<<32 - 1
	for v > most-most%span-1 {
		v = m.uint32()
	}
	return low + int(v%span)
}

func (m *mersenne) pick(list []string) string { return list[m.between(0, len(list)-1)] }
