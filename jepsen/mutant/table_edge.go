package mutant

import "sluice/jepsen/world"

// edgeTable breaks what faces users: services and the worker of the SDK.
func edgeTable() []*Mutant {
	return []*Mutant{
		{
			Name: "settled-unless-refused", Breaks: "a node tells a worker that its settlements stand when it does not know what came of them",
			Edits: []Edit{{"server/work.go", `	settled, err := w.node.Settle(ctx, &sluicev1.SettleRequest{SessionId: w.session, Settlements: all})
	if err != nil {
		return err
	}
`, `	settled, err := w.node.Settle(ctx, &sluicev1.SettleRequest{SessionId: w.session, Settlements: all})
	if err != nil {
		settled = &sluicev1.SettleResponse{}
		for range all {
			settled.Results = append(settled.Results, &sluicev1.SettleResult{})
		}
	}
`}},
			Caught: []string{"I2"}, Sim: under(25, world.Partition), Proc: under(20, world.Partition),
		},
		{
			Name: "worker-takes-duplicates", Breaks: "a worker of the SDK handles a delivery again that it holds or has handled",
			Edits: []Edit{{"client/lane.go", `	case d.Seq <= l.done:
		return false
	case l.current != nil && l.current.Seq == d.Seq:
		return false
`, ""}},
			Caught: []string{"outside"}, Sim: under(25, world.Kill, world.Transfer, world.Partition), Proc: under(20, world.Kill, world.Transfer, world.Partition),
		},
		{
			Name: "settlement-misreported", Breaks: "senders are told that a dead-lettered message was completed",
			Edits:  []Edit{{"fsm/view_message.go", "	return &sluicev1.MessageStatus{\n		MessageId: id, Seq: s.Seq,", "	if s.Settlement == deadLettered {\n		s.Settlement = completed\n	}\n	return &sluicev1.MessageStatus{\n		MessageId: id, Seq: s.Seq,"}},
			Caught: []string{"I2"}, Sim: calm(40), Proc: calm(20),
		},
		{
			Name: "certificates-believed", Breaks: "a client may show a certificate that nobody signed whom the node knows",
			Edits:  []Edit{{"transport/certificates.go", "ClientAuth: tls.VerifyClientCertIfGiven,", "ClientAuth: tls.RequestClientCert,"}},
			Caught: []string{"certificates"}, Proc: under(20, world.CertWrong), Why: "the simulation speaks plain text",
		},
	}
}
