package main

import (
	"math"
	"math/rand/v2"
)

// headInstances are placed one by one; those behind, of which no single one matters, by mean and variance.
const headInstances = 1 << 20

// load is what the groups have to do: shares of all jobs, and instances.
type load struct {
	share, instances []float64
	// top is the share of the busiest instance.
	top float64
}

// spread gives each instance to a group by hash, by Zipf's law; so many of them one by one.
func spread(p parameters, groups, head int, chance *rand.Rand) load {
	l := load{share: make([]float64, groups), instances: make([]float64, groups)}
	head = min(head, int(p.instances))
	whole := powers(1, p.instances, p.exponent)
	for i := range head {
		g := chance.IntN(groups)
		l.share[g] += math.Pow(float64(i+1), -p.exponent) / whole
		l.instances[g]++
	}
	l.top = 1 / whole
	if rest := p.instances - float64(head); rest > 0 {
		l.addTail(p, float64(head), rest, whole, chance)
	}
	return l
}

// addTail adds the instances behind the head: a group gets each of them with a chance of one in so many, so what it gets
// in all is nearly normal, with a mean and a variance that are known. The sums are then made exact.
func (l load) addTail(p parameters, head, rest, whole float64, chance *rand.Rand) {
	one := 1 / float64(len(l.share))
	weight, square := powers(head+1, p.instances, p.exponent)/whole, powers(head+1, p.instances, 2*p.exponent)/whole/whole
	// The more instances a group has, the more they have to do.
	together := weight / math.Sqrt(square*rest)
	share, number := make([]float64, len(l.share)), make([]float64, len(l.share))
	for g := range share {
		a, b := chance.NormFloat64(), chance.NormFloat64()
		b = together*a + math.Sqrt(max(0, 1-together*together))*b
		number[g] = max(0, rest*one+math.Sqrt(rest*one*(1-one))*a)
		share[g] = max(0, weight*one+math.Sqrt(square*one*(1-one))*b)
	}
	scaleShare, scaleNumber := weight/sum(share), rest/sum(number)
	for g := range share {
		l.share[g] += share[g] * scaleShare
		l.instances[g] += number[g] * scaleNumber
	}
}

// powers sums i^-exponent over the whole numbers from one to another.
func powers(from, to, exponent float64) (total float64) {
	const exact = 10_000
	for from <= to && from < exact {
		total += math.Pow(from, -exponent)
		from++
	}
	if from > to {
		return total
	}
	// Each number stands in the middle of its span of one.
	a, b := from-0.5, to+0.5
	if math.Abs(exponent-1) < 1e-9 {
		return total + math.Log(b/a)
	}
	return total + (math.Pow(b, 1-exponent)-math.Pow(a, 1-exponent))/(1-exponent)
}
