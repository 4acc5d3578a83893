package ledger

import "math"

// Confidence of every bound here.
const Confidence = 0.95

// MismatchBound is the one-sided upper bound of a rate at 95 % confidence after k of n: Clopper-Pearson's, which is exact.
// For k = 0 it is 1 - 0.05^(1/n), near the rule of three's 3/n. Without data it is 1.
func MismatchBound(k, n int64) float64 {
	switch {
	case n <= 0 || k >= n:
		return 1
	case k <= 0:
		return -math.Expm1(math.Log(1-Confidence) / float64(n))
	}
	// The bound p solves P(X <= k | n, p) = 0.05, where the left side is 1 - I_p(k+1, n-k) and falls with p.
	low, high := float64(k)/float64(n), 1.0
	for range 100 {
		mid := (low + high) / 2
		if 1-incompleteBeta(float64(k+1), float64(n-k), mid) > 1-Confidence {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// incompleteBeta is I_x(a, b), by the continued fraction of Lentz.
func incompleteBeta(a, b, x float64) float64 {
	if x <= 0 {
		return 0
	}
	if x >= 1 {
		return 1
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	if x > (a+1)/(a+b+2) {
		return 1 - front*betaFraction(b, a, 1-x)/b
	}
	return front * betaFraction(a, b, x) / a
}

func betaFraction(a, b, x float64) float64 {
	const tiny, precision = 1e-300, 1e-14
	atLeast := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/atLeast(1-(a+b)*x/(a+1))
	h := d
	for m := 1.0; m < 10_000; m++ {
		even := m * (b - m) * x / ((a + 2*m - 1) * (a + 2*m))
		d = 1 / atLeast(1+even*d)
		c = atLeast(1 + even/c)
		h *= d * c
		odd := -(a + m) * (a + b + m) * x / ((a + 2*m) * (a + 2*m + 1))
		d = 1 / atLeast(1+odd*d)
		c = atLeast(1 + odd/c)
		h *= d * c
		if math.Abs(d*c-1) < precision {
			break
		}
	}
	return h
}
