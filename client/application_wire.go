package client

import (
	sluicev1 "sluice/api/sluice/v1"
)

// optional is absent for the default and 0 for no limit.
func optional[T uint32 | uint64, V int | int64](v V) *T {
	if v == 0 {
		return nil
	}
	n := T(max(v, 0))
	return &n
}

// limit is the way back.
func limit[V int | int64, T uint32 | uint64](p *T) V {
	switch {
	case p == nil:
		return 0
	case *p == 0:
		return NoLimit
	}
	return V(*p)
}

func (a *Application) proto() (*sluicev1.Application, error) {
	out := &sluicev1.Application{Name: a.Name, Limits: a.Limits.proto(), Supervision: a.Supervision.proto()}
	if a.FreezeExpiry {
		out.ExpiryClock = sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE
	}
	if a.Retention != (Retention{}) {
		out.Retention = &sluicev1.Retention{
			DedupWindow:  duration(a.Retention.DedupWindow),
			HistoryLimit: optional[uint32](a.Retention.HistoryLimit),
		}
	}
	for _, p := range a.Patterns {
		pattern, err := p.proto()
		if err != nil {
			return nil, err
		}
		out.Patterns = append(out.Patterns, pattern)
	}
	var err error
	out.Delivery, err = a.Delivery.proto()
	return out, err
}

func (p *Pattern) proto() (*sluicev1.Pattern, error) {
	out := &sluicev1.Pattern{Name: p.Name}
	for _, t := range p.Types {
		suitable, err := value[sluicev1.Suitability](suitabilities, t.Suitable)
		if err != nil {
			return nil, err
		}
		out.Types = append(out.Types, &sluicev1.MessageType{
			Name: t.Name, Suitable: suitable, After: t.After, Opens: t.Opens, Closes: t.Closes,
		})
	}
	return out, nil
}

func (l *Limits) proto() *sluicev1.Limits {
	if *l == (Limits{}) {
		return nil
	}
	return &sluicev1.Limits{
		MaxMessageBytes:             optional[uint64](l.MaxMessageBytes),
		MaxInboxMessages:            optional[uint64](l.MaxInboxMessages),
		MaxInboxBytes:               optional[uint64](l.MaxInboxBytes),
		MaxDeferredMessages:         optional[uint64](l.MaxDeferredMessages),
		MaxDeferredBytes:            optional[uint64](l.MaxDeferredBytes),
		MaxApplicationDeferredBytes: optional[uint64](l.MaxApplicationDeferredBytes),
		MaxStateBytes:               optional[uint64](l.MaxStateBytes),
		MaxOutgoing:                 optional[uint64](l.MaxOutgoing),
	}
}

func (d *DeliveryPolicy) proto() (*sluicev1.Application_Delivery, error) {
	if *d == (DeliveryPolicy{}) {
		return nil, nil
	}
	onMaxAttempts, err := value[sluicev1.Policy](policies, d.OnMaxAttempts)
	if err != nil {
		return nil, err
	}
	onOwnerLost, err := value[sluicev1.Policy](policies, d.OnOwnerLost)
	return &sluicev1.Application_Delivery{
		Window: optional[uint32](d.Window), MaxAttempts: optional[uint32](d.MaxAttempts),
		BackoffInitial: duration(d.BackoffInitial), BackoffMax: duration(d.BackoffMax),
		OnMaxAttempts: onMaxAttempts, OnOwnerLost: onOwnerLost,
	}, err
}

func applicationOf(a *sluicev1.Application, err error) (Application, error) {
	if err != nil {
		return Application{}, err
	}
	out := Application{
		Name: a.GetName(), Limits: limitsOf(a.GetLimits()), Delivery: deliveryPolicyOf(a.GetDelivery()), Supervision: supervisionOf(a.GetSupervision()),
		FreezeExpiry: a.GetExpiryClock() == sluicev1.ExpiryClock_EXPIRY_CLOCK_FREEZE,
		Version:      a.GetVersion(), RecoveryGeneration: a.GetRecoveryGeneration(), Duplicate: a.GetDuplicate(),
	}
	for _, p := range a.GetPatterns() {
		out.Patterns = append(out.Patterns, patternOf(p))
	}
	if r := a.GetRetention(); r != nil {
		out.Retention = Retention{DedupWindow: r.GetDedupWindow().AsDuration(), HistoryLimit: limit[int](r.HistoryLimit)}
	}
	out.Recovery = applicationRecoveryOf(a.GetRecovery())
	if n := a.GetCounts(); n != nil {
		out.Counts = ModeCounts{
			Normal: n.GetNormal(), Recovery: n.GetRecovery(), Draining: n.GetDraining(),
			DeferredMessages: n.GetDeferredMessages(), DeferredBytes: n.GetDeferredBytes(),
		}
	}
	return out, nil
}

func applicationRecoveryOf(r *sluicev1.ApplicationRecovery) *ApplicationRecovery {
	if r == nil {
		return nil
	}
	out := &ApplicationRecovery{Generation: r.GetGeneration(), Time: timeOf(r.GetTime()), Cause: r.GetCause(), Actor: r.GetActor()}
	if o := r.GetOutage(); o != nil {
		out.Outage = &Outage{Fingerprint: o.GetFingerprint(), Error: o.GetError(), Instances: o.GetInstances(), FirstTime: timeOf(o.GetFirstTime())}
	}
	return out
}

func patternOf(p *sluicev1.Pattern) Pattern {
	out := Pattern{Name: p.GetName()}
	for _, t := range p.GetTypes() {
		out.Types = append(out.Types, MessageType{
			Name: t.GetName(), Suitable: word(suitabilities, t.GetSuitable()), After: t.GetAfter(),
			Opens: t.GetOpens(), Closes: t.GetCloses(),
		})
	}
	return out
}

func limitsOf(l *sluicev1.Limits) Limits {
	if l == nil {
		return Limits{}
	}
	return Limits{
		MaxMessageBytes:             limit[int64](l.MaxMessageBytes),
		MaxInboxMessages:            limit[int64](l.MaxInboxMessages),
		MaxInboxBytes:               limit[int64](l.MaxInboxBytes),
		MaxDeferredMessages:         limit[int64](l.MaxDeferredMessages),
		MaxDeferredBytes:            limit[int64](l.MaxDeferredBytes),
		MaxApplicationDeferredBytes: limit[int64](l.MaxApplicationDeferredBytes),
		MaxStateBytes:               limit[int64](l.MaxStateBytes),
		MaxOutgoing:                 limit[int64](l.MaxOutgoing),
	}
}

func deliveryPolicyOf(d *sluicev1.Application_Delivery) DeliveryPolicy {
	if d == nil {
		return DeliveryPolicy{}
	}
	return DeliveryPolicy{
		Window: limit[int](d.Window), MaxAttempts: limit[int](d.MaxAttempts),
		BackoffInitial: d.GetBackoffInitial().AsDuration(), BackoffMax: d.GetBackoffMax().AsDuration(),
		OnMaxAttempts: word(policies, d.GetOnMaxAttempts()), OnOwnerLost: word(policies, d.GetOnOwnerLost()),
	}
}
