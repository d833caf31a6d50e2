package client

import (
	"encoding/json"
	"fmt"
)

// contentTypeJSON is the content type of what is encoded here.
const contentTypeJSON = "application/json"

// WithJSON is the message with v as JSON for its data, and the content type application/json.
func (m Message) WithJSON(v any) (Message, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return m, fmt.Errorf("client: encode %s to %s: %w", m.Type, m.InstanceID(), err)
	}
	m.Data, m.ContentType = data, contentTypeJSON
	return m, nil
}

// DecodeJSON fills v in from the message's data, whatever its content type says.
func (m Message) DecodeJSON(v any) error {
	if err := json.Unmarshal(m.Data, v); err != nil {
		return fmt.Errorf("client: decode message %s (%s): %w", m.ID, m.Type, err)
	}
	return nil
}

// SendJSON is Send with v as JSON for the message's data; nothing is given out if v cannot be encoded.
func (d *Delivery) SendJSON(m Message, v any) error {
	m, err := m.WithJSON(v)
	if err != nil {
		return err
	}
	d.Send(m)
	return nil
}

// ReplyJSON is Reply with v as JSON; nothing is set if v cannot be encoded.
func (d *Delivery) ReplyJSON(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("client: encode the reply: %w", err)
	}
	d.Reply(data, contentTypeJSON)
	return nil
}

// DecodeReply fills v in from the reply, which is JSON. Without a reply it is an error.
func (s MessageStatus) DecodeReply(v any) error {
	if !s.HasReply {
		return fmt.Errorf("client: %s has no reply", s)
	}
	if err := json.Unmarshal(s.Reply, v); err != nil {
		return fmt.Errorf("client: decode the reply of message %s: %w", s.MessageID, err)
	}
	return nil
}
