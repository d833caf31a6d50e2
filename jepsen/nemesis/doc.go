// Package nemesis hurts a world by a plan that a seed makes: every kind of fault once, in an order left to chance, then
// kinds left to chance. Each fault is healed after a while, whatever happens. What the world cannot do is skipped, told
// and counted.
package nemesis
