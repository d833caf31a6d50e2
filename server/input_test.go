package server

import (
	"net/http"
	"strings"
	"testing"
)

// TestBadInput sends what must be refused to a real node, each as curl would, and wants a clear error and a healthy
// node. A reason of the form "result X" is wanted in the first result.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	s.must(t, "MessageService/Send", `{"messages": [{"application": "a", "instance": "i", "type": "t", "id": "m"}]}`)
	long := strings.Repeat("k", 257)
	send := func(fields string) string { return `{"messages": [{` + fields + `}]}` }
	t.Cleanup(func() {
		if lines, ready := (&pages{lifetime: s.lifetime, node: clusterNode{s.node}}).checks(); !ready {
			t.Errorf("afterwards: want the node ready, got %v", lines)
		}
	})
	for _, c := range []struct{ name, method, body, code, reason string }{
		{"application that allows larger messages than a node", "ApplicationService/Apply", `{"name": "b", "limits": {"maxMessageBytes": "15728641"}}`, "invalid_argument", "BAD_FIELD"},
		{"application name empty", "ApplicationService/Apply", `{}`, "invalid_argument", "BAD_NAME"},
		{"application name upper case", "ApplicationService/Apply", `{"name": "Orders"}`, "invalid_argument", "BAD_NAME"},
		{"application name with a slash", "ApplicationService/Apply", `{"name": "a/b"}`, "invalid_argument", "BAD_NAME"},
		{"application name with a dash first", "ApplicationService/Apply", `{"name": "-a"}`, "invalid_argument", "BAD_NAME"},
		{"application name of 64 bytes", "ApplicationService/Apply", `{"name": "` + strings.Repeat("a", 64) + `"}`, "invalid_argument", "BAD_NAME"},
		{"suitable is no enum name", "ApplicationService/Apply", `{"name": "b", "patterns": [{"name": "p", "types": [{"name": "x", "suitable": "NEVER"}]}]}`, "invalid_argument", "BAD_FIELD"},
		{"after names no type", "ApplicationService/Apply", `{"name": "b", "patterns": [{"name": "p", "types": [{"name": "x", "after": ["y"]}]}]}`, "invalid_argument", "BAD_FIELD"},
		{"a window of zero", "ApplicationService/Apply", `{"name": "b", "delivery": {"window": 0}}`, "invalid_argument", "BAD_FIELD"},
		{"policy of another enum's use", "ApplicationService/Apply", `{"name": "b", "delivery": {"onMaxAttempts": "POLICY_REDELIVER"}}`, "invalid_argument", "BAD_FIELD"},
		{"deduplication for no time", "ApplicationService/Apply", `{"name": "b", "retention": {"dedupWindow": "0.1s"}}`, "invalid_argument", "BAD_FIELD"},
		{"negative backoff", "ApplicationService/Apply", `{"name": "b", "delivery": {"backoffInitial": "-1s"}}`, "invalid_argument", "BAD_FIELD"},
		{"negative rate", "ApplicationService/CompleteRecovery", `{"application": "a", "rate": -1}`, "invalid_argument", "BAD_FIELD"},
		{"rate that is no number", "ApplicationService/CompleteRecovery", `{"application": "a", "rate": "NaN"}`, "invalid_argument", "BAD_FIELD"},

		{"key empty", "MessageService/Send", send(`"application": "a", "type": "t"`), "result invalid_argument", "BAD_NAME"},
		{"key of 257 bytes", "MessageService/Send", send(`"application": "a", "type": "t", "instance": "` + long + `"`), "result invalid_argument", "BAD_NAME"},
		{"key with a line feed", "MessageService/Send", send(`"application": "a", "type": "t", "instance": "x\ny"`), "result invalid_argument", "BAD_NAME"},
		{"key with a control character of C1", "MessageService/Send", send(`"application": "a", "type": "t", "instance": "x\u0085y"`), "result invalid_argument", "BAD_NAME"},
		{"id of 257 bytes", "MessageService/Send", send(`"application": "a", "type": "t", "instance": "i", "id": "` + long + `"`), "result invalid_argument", "BAD_FIELD"},
		{"id with a tab", "MessageService/Send", send(`"application": "a", "type": "t", "instance": "i", "id": "a\tb"`), "result invalid_argument", "BAD_FIELD"},
		{"type empty", "MessageService/Send", send(`"application": "a", "instance": "i"`), "result invalid_argument", "BAD_FIELD"},
		{"transaction of 257 bytes", "MessageService/Send", send(`"application": "a", "type": "t", "instance": "i", "transaction": "` + long + `"`), "result invalid_argument", "BAD_NAME"},
		{"application empty", "MessageService/Send", send(`"instance": "i", "type": "t"`), "result invalid_argument", "BAD_NAME"},
		{"application unknown", "MessageService/Send", send(`"application": "nobody", "instance": "i", "type": "t"`), "result not_found", "UNKNOWN_APPLICATION"},
		{"header too long", "MessageService/Send", send(`"application": "a", "instance": "i", "type": "t", "headers": {"h": "` + strings.Repeat("v", 20000) + `"}`), "result invalid_argument", "BAD_FIELD"},
		{"too much data", "MessageService/Send", send(`"application": "a", "instance": "i", "type": "t", "data": "` + strings.Repeat("AAAA", 400000) + `"`), "result resource_exhausted", "LIMIT_MESSAGE_BYTES"},
		{"same id, other content", "MessageService/Send", send(`"application": "a", "instance": "i", "type": "t", "id": "m", "data": "AAAA"`), "result invalid_argument", "ID_REUSED"},
		{"too many messages", "MessageService/Send", `{"messages": [` + strings.Repeat("{},", 1024) + `{}]}`, "invalid_argument", "BAD_FIELD"},
		{"body empty", "MessageService/Send", ``, "invalid_argument", "BAD_FIELD"},
		{"body cut off", "MessageService/Send", `{"messages": [`, "invalid_argument", "BAD_FIELD"},
		{"body an array", "MessageService/Send", `[]`, "invalid_argument", "BAD_FIELD"},
		{"messages a string", "MessageService/Send", `{"messages": "x"}`, "invalid_argument", "BAD_FIELD"},
		{"data not base64", "MessageService/Send", send(`"data": "§§§"`), "invalid_argument", "BAD_FIELD"},
		{"key a number", "MessageService/Send", send(`"instance": 5`), "invalid_argument", "BAD_FIELD"},
		{"key no utf-8", "MessageService/Send", send("\"instance\": \"\xff\""), "invalid_argument", "BAD_FIELD"},
		{"message unknown", "MessageService/Get", `{"application": "a", "instance": "i", "id": "nobody"}`, "not_found", "UNKNOWN_MESSAGE"},
		{"message of no instance", "MessageService/Get", `{"application": "a", "instance": "nobody", "id": "m"}`, "not_found", "UNKNOWN_INSTANCE"},
		{"message without an id", "MessageService/Get", `{"application": "a", "instance": "i"}`, "invalid_argument", "BAD_FIELD"},
		{"await of the unknown", "MessageService/Await", `{"application": "a", "instance": "i", "id": "nobody", "timeout": "0.2s"}`, "not_found", "UNKNOWN_MESSAGE"},
		{"await for too long", "MessageService/Await", `{"application": "a", "instance": "i", "id": "m", "timeout": "300.1s"}`, "invalid_argument", "BAD_FIELD"},

		{"instance unknown", "InstanceService/Get", `{"application": "a", "instance": "nobody"}`, "not_found", "UNKNOWN_INSTANCE"},
		{"instance of no application", "InstanceService/Get", `{"application": "nobody", "instance": "i"}`, "not_found", "UNKNOWN_APPLICATION"},
		{"instance with a bad key", "InstanceService/Get", `{"application": "a", "instance": "x\u0000"}`, "invalid_argument", "BAD_NAME"},
		{"list of the unknown", "InstanceService/List", `{"application": "nobody"}`, "not_found", "UNKNOWN_APPLICATION"},
		{"list by a mode that is none", "InstanceService/List", `{"application": "a", "mode": 9}`, "invalid_argument", "BAD_FIELD"},
		{"list with huge pages", "InstanceService/List", `{"application": "a", "pageSize": 1001}`, "invalid_argument", "BAD_FIELD"},
		{"list with a page token that is none", "InstanceService/List", `{"application": "a", "pageToken": "` + long + `"}`, "invalid_argument", "BAD_FIELD"},
		{"history unknown", "InstanceService/History", `{"application": "a", "instance": "nobody"}`, "not_found", "UNKNOWN_INSTANCE"},
		{"messages unknown", "InstanceService/ListMessages", `{"application": "a", "instance": "nobody"}`, "not_found", "UNKNOWN_INSTANCE"},
		{"complete unknown", "InstanceService/CompleteRecovery", `{"application": "a", "instance": "nobody"}`, "not_found", "UNKNOWN_INSTANCE"},
		{"complete in normal mode", "InstanceService/CompleteRecovery", `{"application": "a", "instance": "i"}`, "failed_precondition", "NOT_IN_RECOVERY"},
		{"epoch a word", "InstanceService/CompleteRecovery", `{"application": "a", "instance": "i", "epoch": "soon"}`, "invalid_argument", "BAD_FIELD"},
		{"enter with a nul in the key", "InstanceService/EnterRecovery", `{"application": "a", "instance": "a\u0000b", "cause": "x"}`, "invalid_argument", "BAD_NAME"},
		{"enter with a huge request id", "InstanceService/EnterRecovery", `{"application": "a", "instance": "i", "requestId": "` + long + `"}`, "invalid_argument", "BAD_FIELD"},
		{"resolve without an action", "InstanceService/ResolveMessage", `{"application": "a", "instance": "i", "seq": 1, "lane": "LANE_NORMAL"}`, "invalid_argument", "BAD_FIELD"},
		{"resolve with an action that is none", "InstanceService/ResolveMessage", `{"application": "a", "instance": "i", "seq": 1, "lane": "LANE_NORMAL", "action": 77}`, "invalid_argument", "BAD_FIELD"},
		{"resolve the unknown", "InstanceService/ResolveMessage", `{"application": "a", "instance": "i", "seq": 999, "lane": "LANE_NORMAL", "action": "ACTION_SKIP", "reason": "x"}`, "not_found", "UNKNOWN_MESSAGE"},
		{"resolve with a huge version", "InstanceService/ResolveMessage", `{"application": "a", "instance": "i", "seq": 1, "lane": "LANE_NORMAL", "action": "ACTION_SKIP", "version": "` + long + `"}`, "invalid_argument", "BAD_FIELD"},
		{"dead letters of no application", "InstanceService/ListDeadLetters", `{"application": "nobody"}`, "not_found", "UNKNOWN_APPLICATION"},
		{"dead letters of an unknown instance", "InstanceService/ListDeadLetters", `{"application": "a", "instance": "nobody"}`, "not_found", "UNKNOWN_INSTANCE"},
		{"dead letters of an instance and a prefix", "InstanceService/ListDeadLetters", `{"application": "a", "instance": "i", "prefix": "i"}`, "invalid_argument", "BAD_FIELD"},
		{"dead letters with huge pages", "InstanceService/ListDeadLetters", `{"application": "a", "pageSize": 1001}`, "invalid_argument", "BAD_FIELD"},
		{"dead letters with a page token that is none", "InstanceService/ListDeadLetters", `{"application": "a", "pageToken": "x"}`, "invalid_argument", "BAD_FIELD"},
		{"groups of no application", "InstanceService/GroupDeadLetters", `{"application": "nobody"}`, "not_found", "UNKNOWN_APPLICATION"},
		{"groups by a huge prefix", "InstanceService/GroupDeadLetters", `{"application": "a", "prefix": "` + long + `"}`, "invalid_argument", "BAD_FIELD"},
		{"put back in an unknown instance", "InstanceService/PutBack", `{"application": "a", "instance": "nobody", "lane": "LANE_NORMAL", "seqs": [1]}`, "not_found", "UNKNOWN_INSTANCE"},
		{"put back without a lane", "InstanceService/PutBack", `{"application": "a", "instance": "i", "seqs": [1]}`, "invalid_argument", "BAD_FIELD"},
		{"put back what was refused elsewhere", "InstanceService/PutBack", `{"application": "a", "instance": "i", "lane": "LANE_OUTGOING", "seqs": [1]}`, "invalid_argument", "BAD_FIELD"},
		{"put back nothing", "InstanceService/PutBack", `{"application": "a", "instance": "i", "lane": "LANE_NORMAL"}`, "invalid_argument", "BAD_FIELD"},
		{"put back too many", "InstanceService/PutBack", `{"application": "a", "instance": "i", "lane": "LANE_NORMAL", "seqs": [` + strings.Repeat(`1,`, 1024) + `1]}`, "invalid_argument", "BAD_FIELD"},
		{"put back a recovery message in normal mode", "InstanceService/PutBack", `{"application": "a", "instance": "i", "lane": "LANE_RECOVERY", "seqs": [1]}`, "failed_precondition", "NOT_IN_RECOVERY"},

		{"send nothing", "MessageService/Send", `{}`, "invalid_argument", "BAD_FIELD"},
		{"send under a name that is misspelt", "MessageService/Send", `{"mesages": [{"application": "a", "instance": "i", "type": "t"}]}`, "invalid_argument", "BAD_FIELD"},
		{"transaction unknown", "TransactionService/Get", `{"application": "a", "instance": "i", "transaction": "nobody"}`, "not_found", "UNKNOWN_TRANSACTION"},
		{"transaction without a name", "TransactionService/End", `{"application": "a", "instance": "i"}`, "invalid_argument", "BAD_NAME"},
		{"operation unknown", "OperationService/Get", `{"id": "nobody"}`, "not_found", "UNKNOWN_OPERATION"},
		{"cancel of the unknown", "OperationService/Cancel", `{"id": "nobody"}`, "not_found", "UNKNOWN_OPERATION"},
		{"start of no kind", "OperationService/Start", `{"application": "a", "selector": {"prefix": "i"}}`, "invalid_argument", "BAD_FIELD"},
		{"start with an empty selector", "OperationService/Start", `{"application": "a", "kind": "OPERATION_KIND_ENTER_RECOVERY", "selector": {}}`, "invalid_argument", "BAD_FIELD"},
		{"start with a mode that is none", "OperationService/Start", `{"application": "a", "kind": "OPERATION_KIND_ENTER_RECOVERY", "selector": {"mode": 9}}`, "invalid_argument", "BAD_FIELD"},
		{"start with too many named", "OperationService/Start", `{"application": "a", "kind": "OPERATION_KIND_ENTER_RECOVERY", "selector": {"instances": [` + strings.Repeat(`"k",`, 10_000) + `"k"]}}`, "invalid_argument", "BAD_FIELD"},
		{"start with a bad key", "OperationService/Start", `{"application": "a", "kind": "OPERATION_KIND_ENTER_RECOVERY", "selector": {"instances": ["a\u0000"]}}`, "invalid_argument", "BAD_FIELD"},
		{"release until a time", "OperationService/Start", `{"application": "a", "kind": "OPERATION_KIND_COMPLETE_RECOVERY", "selector": {"prefix": "i"}, "until": "2030-01-01T00:00:00Z"}`, "invalid_argument", "BAD_FIELD"},
		{"start in no application", "OperationService/Start", `{"application": "nobody", "kind": "OPERATION_KIND_ENTER_RECOVERY", "selector": {"prefix": "i"}}`, "not_found", "UNKNOWN_APPLICATION"},
		{"items of no operation", "OperationService/ListItems", `{"id": "nobody"}`, "not_found", "UNKNOWN_OPERATION"},
		{"items without an id", "OperationService/ListItems", `{}`, "invalid_argument", "BAD_FIELD"},
		{"items in a state that is none", "OperationService/ListItems", `{"id": "nobody", "state": 9}`, "invalid_argument", "BAD_FIELD"},
		{"items with a page token that is none", "OperationService/ListItems", `{"id": "nobody", "pageToken": "x"}`, "invalid_argument", "BAD_FIELD"},
		{"operation without an id", "OperationService/Pause", `{}`, "invalid_argument", "BAD_FIELD"},

		{"session for no application", "WorkerService/OpenSession", `{"application": "nobody", "name": "w"}`, "not_found", "UNKNOWN_APPLICATION"},
		{"ttl no duration", "WorkerService/OpenSession", `{"application": "a", "ttl": "soon"}`, "invalid_argument", "BAD_FIELD"},
		{"ttl too short", "WorkerService/OpenSession", `{"application": "a", "ttl": "0.5s"}`, "invalid_argument", "BAD_FIELD"},
		{"ttl too long", "WorkerService/OpenSession", `{"application": "a", "ttl": "3601s"}`, "invalid_argument", "BAD_FIELD"},
		{"capacity too large", "WorkerService/OpenSession", `{"application": "a", "capacity": 65537}`, "invalid_argument", "BAD_FIELD"},
		{"poll by nobody", "WorkerService/Poll", `{"sessionId": "nobody", "max": 1, "wait": "0.1s"}`, "not_found", "UNKNOWN_SESSION"},
		{"poll for too many", "WorkerService/Poll", `{"sessionId": "nobody", "max": 1025}`, "invalid_argument", "BAD_FIELD"},
		{"poll for too long", "WorkerService/Poll", `{"sessionId": "nobody", "wait": "61s"}`, "invalid_argument", "BAD_FIELD"},
		{"poll without a session", "WorkerService/Poll", `{}`, "invalid_argument", "BAD_FIELD"},
		{"keep alive of nobody", "WorkerService/KeepAlive", `{"sessionId": "nobody"}`, "not_found", "UNKNOWN_SESSION"},
		{"close of nobody", "WorkerService/CloseSession", `{"sessionId": "nobody"}`, "not_found", "UNKNOWN_SESSION"},
		{"too many settlements", "WorkerService/Settle", `{"sessionId": "x", "settlements": [` + strings.Repeat("{},", 1024) + `{}]}`, "invalid_argument", "BAD_FIELD"},
		{"settlement without an outcome", "WorkerService/Settle", `{"sessionId": "x", "settlements": [{"application": "a", "instance": "i", "seq": 1, "lane": "LANE_NORMAL"}]}`, "result invalid_argument", "BAD_FIELD"},

		{"remove nobody", "ClusterService/Remove", `{}`, "invalid_argument", "BAD_FIELD"},
		{"remove a stranger", "ClusterService/Remove", `{"nodeId": "stranger"}`, "not_found", "UNKNOWN_MEMBER"},
		{"join without an address", "ClusterService/Join", `{"nodeId": "n2"}`, "invalid_argument", "BAD_FIELD"},
		{"unknown method", "MessageService/Explode", `{}`, "unimplemented", "NOT_IMPLEMENTED"},
		{"unknown service", "NoService/Send", `{}`, "unimplemented", "NOT_IMPLEMENTED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := post(t, s.h1, s.url, c.method, c.body)
			if code, inResult := strings.CutPrefix(c.code, "result "); inResult {
				if got.status != http.StatusOK || !strings.Contains(got.body, `"`+code+`"`) || !strings.Contains(got.body, `"`+c.reason+`"`) {
					t.Errorf("want %s %s in the result, got %d %.300s", code, c.reason, got.status, got.body)
				}
				return
			}
			got.want(t, c.code, c.reason)
		})
	}
}

// TestBadInputIsToldByFieldAndWhatIsAllowed wants the words of refusals: the field, and what it may be.
func TestBadInputIsToldByFieldAndWhatIsAllowed(t *testing.T) {
	t.Parallel()
	s := startReal(t, t.TempDir())
	s.must(t, "ApplicationService/Apply", `{"name": "a"}`)
	supervision := func(fields string) string { return `{"name": "b", "supervision": {` + fields + `}}` }
	long := strings.Repeat("k", 257)
	for _, c := range []struct{ name, method, body, code, reason, text string }{
		{"outage of one instance", "ApplicationService/Apply", supervision(`"outageInstances": 1`), "invalid_argument", "BAD_FIELD", "supervision.outage_instances is 1; allowed are 0 (never) and 2 to 1,000,000"},
		{"outage of too many instances", "ApplicationService/Apply", supervision(`"outageInstances": 1000001`), "invalid_argument", "BAD_FIELD", "supervision.outage_instances is 1000001; allowed are 0 (never) and 2 to 1,000,000"},
		{"outage of a negative number", "ApplicationService/Apply", supervision(`"outageInstances": -1`), "invalid_argument", "BAD_FIELD", "supervision.outageInstances: want a whole number from 0 on"},
		{"outage of half an instance", "ApplicationService/Apply", supervision(`"outageInstances": 2.5`), "invalid_argument", "BAD_FIELD", "supervision.outageInstances: want a whole number from 0 on"},
		{"outage of a word", "ApplicationService/Apply", supervision(`"outage_instances": "many"`), "invalid_argument", "BAD_FIELD", "supervision.outage_instances: want a whole number from 0 on"},
		{"outage within no time", "ApplicationService/Apply", supervision(`"outageWindow": "0s"`), "invalid_argument", "BAD_FIELD", "supervision.outage_window is 0s; allowed are 1s to 1h0m0s"},
		{"outage within too short a time", "ApplicationService/Apply", supervision(`"outageWindow": "0.999s"`), "invalid_argument", "BAD_FIELD", "supervision.outage_window is 999ms; allowed are 1s to 1h0m0s"},
		{"outage within too long a time", "ApplicationService/Apply", supervision(`"outageWindow": "3600.001s"`), "invalid_argument", "BAD_FIELD", "supervision.outage_window is 1h0m0.001s; allowed are 1s to 1h0m0s"},
		{"outage within a negative time", "ApplicationService/Apply", supervision(`"outageWindow": "-60s"`), "invalid_argument", "BAD_FIELD", "supervision.outage_window is -1m0s; allowed are 1s to 1h0m0s"},
		{"outage within a word", "ApplicationService/Apply", supervision(`"outageWindow": "soon"`), "invalid_argument", "BAD_FIELD", "supervision.outageWindow: want a duration in seconds"},
		{"outage within a number", "ApplicationService/Apply", supervision(`"outageWindow": 60`), "invalid_argument", "BAD_FIELD", "supervision.outageWindow: want a duration in seconds"},
		{"outage within an age", "ApplicationService/Apply", supervision(`"outageWindow": "400000000000s"`), "invalid_argument", "BAD_FIELD", "supervision.outageWindow: want a duration in seconds"},
		{"held for too short", "ApplicationService/Apply", supervision(`"heldAfter": "0.5s"`), "invalid_argument", "BAD_FIELD", "supervision.held_after is 500ms; allowed are 1s to 720h0m0s, and 0: never"},
		{"held for too long", "ApplicationService/Apply", supervision(`"heldAfter": "2592001s"`), "invalid_argument", "BAD_FIELD", "supervision.held_after is 720h0m1s; allowed are 1s to 720h0m0s, and 0: never"},
		{"held for a negative time", "ApplicationService/Apply", supervision(`"heldAfter": "-1s"`), "invalid_argument", "BAD_FIELD", "supervision.held_after is -1s; allowed are 1s to 720h0m0s, and 0: never"},
		{"supervision a number", "ApplicationService/Apply", `{"name": "b", "supervision": 5}`, "invalid_argument", "BAD_FIELD", "supervision: want an object"},
		{"explain without an application", "InstanceService/Explain", `{"instance": "i"}`, "invalid_argument", "BAD_NAME", "application \"\": want 1 to 63 of a-z, 0-9"},
		{"explain in no name of an application", "InstanceService/Explain", `{"application": "Orders", "instance": "i"}`, "invalid_argument", "BAD_NAME", "application \"Orders\": want 1 to 63 of a-z, 0-9"},
		{"explain in no application", "InstanceService/Explain", `{"application": "nobody", "instance": "i"}`, "not_found", "UNKNOWN_APPLICATION", "there is no application \"nobody\": it must be declared first"},
		{"explain without an instance", "InstanceService/Explain", `{"application": "a"}`, "invalid_argument", "BAD_NAME", "instance is empty: want 1 to 256 bytes"},
		{"explain the unknown", "InstanceService/Explain", `{"application": "a", "instance": "nobody"}`, "not_found", "UNKNOWN_INSTANCE", "there is no instance a/nobody; it exists from its first accepted message"},
		{"explain with a key too long", "InstanceService/Explain", `{"application": "a", "instance": "` + long + `"}`, "invalid_argument", "BAD_NAME", "instance is 257 bytes long: want 1 to 256"},
		{"explain with a nul in the key", "InstanceService/Explain", `{"application": "a", "instance": "x\u0000"}`, "invalid_argument", "BAD_NAME", `instance "x\x00" holds a control character: want none`},
		{"explain with a key that is a number", "InstanceService/Explain", `{"application": "a", "instance": 5}`, "invalid_argument", "BAD_FIELD", "instance: want a string, got a number"},
		{"explain with a stale that is a word", "InstanceService/Explain", `{"application": "a", "instance": "i", "stale": "maybe"}`, "invalid_argument", "BAD_FIELD", "stale: want true or false, got a string"},
		{"explain in an array", "InstanceService/Explain", `[]`, "invalid_argument", "BAD_FIELD", "the body is an array: want a JSON object"},
		{"explain nothing", "InstanceService/Explain", ``, "invalid_argument", "BAD_FIELD", "the body is empty: want a JSON object"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := post(t, s.h1, s.url, c.method, c.body)
			got.want(t, c.code, c.reason)
			if !strings.Contains(got.Message, c.text) {
				t.Errorf("want %q in %q", c.text, got.Message)
			}
		})
	}
	if got := post(t, s.h1, s.url, "ApplicationService/Get", `{"name": "b"}`); got.Code != "not_found" {
		t.Errorf("a refused declaration was taken: %s", got.body)
	}
}
